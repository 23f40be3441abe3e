"""Workers and metrics."""

from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from api.deps import ReadingSession
from api.metrics import CONTENT_TYPE, render
from api.openapi.document import sends
from api.schemas.sweeps import PresetOut
from api.schemas.workers import WorkerOut, WorkerProblemOut
from services.monitoring.workers import list_problems, list_workers, rate_workers
from shared.domain.space import SPACE_PRESETS

router = APIRouter(tags=["system"])


@router.get("/v1/workers")
def show_workers(session: ReadingSession) -> list[WorkerOut]:
    """Lists the workers seen in the last two minutes, each with its problems, if any."""
    rates, problems = rate_workers(session), list_problems(session)
    return [
        WorkerOut.model_validate(
            asdict(worker)
            | {
                "jobs_per_s": rates.get(worker.id),
                "problems": [
                    WorkerProblemOut.model_validate(row)
                    for row in problems
                    if row.worker_id == worker.id
                ],
            }
        )
        for worker in list_workers(session)
    ]


@router.get("/v1/presets")
def list_presets() -> dict[str, PresetOut]:
    """Shows the presets by name, each as a body that creates its sweep."""
    return {name: PresetOut.named(name) for name in SPACE_PRESETS}


@router.get("/metrics", response_class=Response, responses=sends("text/plain"))
def show_metrics(request: Request) -> Response:
    """Shows metrics for Prometheus: this process's requests and the cluster's state."""
    return Response(render(request.app.state.metrics), media_type=CONTENT_TYPE)
