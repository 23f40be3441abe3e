"""The FastAPI application: its routes and its middleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Security
from fastapi.middleware.cors import CORSMiddleware
from sqlalchemy import Engine

from api.computing.places import Places
from api.computing.pool import ComputingPool
from api.dashboard_page import serve_dashboard
from api.deps import bind_ids, refuse_unknown_parameters
from api.errors import register_error_handlers
from api.metrics import RequestTimes, make_registry
from api.middleware.admission import Admission
from api.middleware.deadline import Deadline
from api.middleware.guard import Guard
from api.middleware.head import HeadAsGet
from api.middleware.request_log import RequestLog
from api.middleware.sub_path import SubPath
from api.openapi.docs_page import key_scheme, serve_docs
from api.openapi.document import describe
from api.readiness import Readiness
from api.routes import (
    analysis,
    devices,
    events,
    explore,
    exports,
    health,
    keys,
    results,
    sweeps,
    system,
    trainings,
)
from api.streaming.hub import Hub
from shared.db.session import in_transactions, make_engine, make_session_factory
from shared.settings import Settings, get_settings
from shared.version import code_version

MAX_EXPORTS, MAX_EXPORTS_OF_CLIENT = 16, 4
EXPOSED_HEADERS = (
    "Location", "Retry-After", "X-Request-ID",
    "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
)  # fmt: skip


def create_app(settings: Settings | None = None) -> FastAPI:
    """Returns the application; it connects to the database at the first request."""
    settings = settings or get_settings()
    engine = make_engine(settings, pool_size=settings.api_connections, autocommit=True)
    probe = make_engine(settings, pool_size=1, autocommit=True)  # readiness waits for no request

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()
        probe.dispose()

    app = FastAPI(
        title="convsweep",
        version=code_version(),
        summary="Every architecture of a search space, evaluated exactly once.",
        lifespan=lifespan,
        dependencies=[Depends(bind_ids), Depends(refuse_unknown_parameters)],
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat whatever Host a request names
    )
    add_state(app, settings, engine, probe)
    add_middleware(app, settings)
    register_error_handlers(app)
    serve_docs(app)
    serve_dashboard(app)
    app.include_router(health.router)
    secured = [Security(key_scheme)] if settings.api_keys == "required" else []
    for routes in (
        sweeps, trainings, events, results, exports, analysis, devices, explore, keys, system,
    ):  # fmt: skip
        app.include_router(routes.router, dependencies=secured)
    describe(app)
    return app


def add_state(app: FastAPI, settings: Settings, engine: Engine, probe: Engine) -> None:
    """Adds what requests share."""
    state = app.state
    state.session_factory = make_session_factory(in_transactions(engine))
    state.reading_factory = make_session_factory(engine)
    state.trainings_dir = settings.trainings
    state.readiness = Readiness(make_session_factory(probe))
    state.computing = ComputingPool(settings)
    state.exports = Places("exports", total=MAX_EXPORTS, per_client=MAX_EXPORTS_OF_CLIENT)
    state.streams = Places(
        "event streams",
        total=settings.api_streams + 1,  # the hub answers the one too many
        per_client=settings.api_streams_of_client,
    )
    state.hub = Hub(state.reading_factory, max_streams=settings.api_streams)
    state.metrics = make_registry(settings, state.reading_factory)


def add_middleware(app: FastAPI, settings: Settings) -> None:
    """Adds the middleware; the last added runs first."""
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        Admission,
        settings=settings,
        sessions=app.state.reading_factory,
        computing=app.state.computing.places,
    )
    app.add_middleware(Deadline, answer_s=settings.api_answer_s)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(settings.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(
        Guard,
        keys_required=settings.api_keys == "required",
        allowed_origins=settings.allowed_origins,
    )
    app.add_middleware(RequestLog, times=RequestTimes(app.state.metrics))
    if settings.root_path:
        app.add_middleware(SubPath, prefix=settings.root_path)
