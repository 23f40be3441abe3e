"""Workers and metrics."""

from fastapi import APIRouter, Request, Response

from api.deps import ReadingSession
from api.metrics import CONTENT_TYPE, render
from api.openapi import sends
from api.schemas import WorkerOut
from services.workers import list_workers

router = APIRouter(tags=["system"])


@router.get("/v1/workers")
def show_workers(session: ReadingSession) -> list[WorkerOut]:
    """Lists the workers seen lately and what keeps them from working, if anything does."""
    return [WorkerOut.model_validate(row, from_attributes=True) for row in list_workers(session)]


@router.get("/metrics", response_class=Response, responses=sends("text/plain"))
def show_metrics(request: Request) -> Response:
    """Shows what Prometheus reads: this process's requests, and the whole cluster's state."""
    return Response(render(request.app.state.metrics), media_type=CONTENT_TYPE)
