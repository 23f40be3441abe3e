"""The FastAPI application and the process that serves it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from api.deadline import Deadline
from api.deps import refuse_unknown_parameters
from api.errors import register_error_handlers
from api.guard import Guard
from api.hub import Hub
from api.openapi import describe
from api.routes import events, results, sweeps, system
from shared.db.session import make_engine, make_session_factory
from shared.settings import Settings, get_settings
from shared.version import code_version


def create_app(settings: Settings | None = None) -> FastAPI:
    """Returns the application; it connects to the database when first asked something."""
    settings = settings or get_settings()
    engine = make_engine(settings, pool_size=settings.api_connections)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()

    app = FastAPI(
        title="convsweep",
        version=code_version(),
        summary="Every architecture of a search space, evaluated exactly once.",
        lifespan=lifespan,
        dependencies=[Depends(refuse_unknown_parameters)],
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(Deadline, answer_s=settings.api_answer_s)
    app.add_middleware(Guard, listens_on=settings.api_host)
    app.state.session_factory = make_session_factory(engine)
    app.state.hub = Hub(app.state.session_factory, max_streams=settings.api_streams)
    register_error_handlers(app)
    for router in (sweeps.router, events.router, results.router, system.router):
        app.include_router(router)
    describe(app)
    return app
