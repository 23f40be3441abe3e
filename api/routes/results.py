"""Results of a sweep: leaderboard, jobs with their trials, export and plots."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.deps import MAX_ID, DbSession, JobId, SweepId
from api.openapi import raises, sends
from api.schemas import JobDetailOut, JobOut, JobPage, LeaderboardOut, LeaderOut
from services import analysis, export, leaderboard
from services.sweeps import get_sweep
from shared.errors import ConflictError
from shared.protocol import Fraction
from shared.status import JobStatus

router = APIRouter(prefix="/v1", tags=["results"])

SortKey = Literal[
    "-accuracy", "accuracy", "-throughput", "throughput", "-ratio", "ratio",
    "-parameters", "parameters", "-flops", "flops",
]  # fmt: skip


@router.get("/sweeps/{sweep_id}/leaderboard")
def show_leaderboard(
    sweep_id: SweepId,
    session: DbSession,
    min_accuracy: Annotated[Fraction | None, Query(description="Fraction, 0 to 1.")] = None,
    min_throughput: Annotated[
        float | None, Query(ge=0, allow_inf_nan=False, description="Images per second.")
    ] = None,
    max_ratio: Annotated[
        float | None, Query(ge=0, allow_inf_nan=False, description="Output / input elements.")
    ] = None,
    sort: Annotated[SortKey, Query(description="A minus puts the largest first.")] = "-accuracy",
    limit: Annotated[int, Query(ge=1, le=1000, description="Most networks.")] = 100,
) -> LeaderboardOut:
    """Ranks the completed networks; a minus before the sort key puts the largest first."""
    rows = leaderboard.rank_jobs(
        session,
        sweep_id,
        min_accuracy=min_accuracy,
        min_throughput=min_throughput,
        max_ratio=max_ratio,
        sort=sort,
        limit=limit,
    )
    leaders = [LeaderOut.ranked(rank, *row) for rank, row in enumerate(rows, start=1)]
    return LeaderboardOut(sweep_id=sweep_id, rows=leaders)


@router.get("/sweeps/{sweep_id}/jobs")
def list_jobs(
    sweep_id: SweepId,
    session: DbSession,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    after_id: Annotated[int, Query(ge=0, le=MAX_ID, description="Only jobs after this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most jobs on a page.")] = 100,
) -> JobPage:
    """Lists a sweep's jobs by id, of one state or all."""
    jobs = leaderboard.list_jobs(session, sweep_id, status=status, after_id=after_id, limit=limit)
    next_id = jobs[-1].id if len(jobs) == limit else None
    return JobPage(jobs=[JobOut.of(job) for job in jobs], next_after_id=next_id)


@router.get("/jobs/{job_id}")
def show_job(job_id: JobId, session: DbSession) -> JobDetailOut:
    """Shows one job with its trials, where each was measured, and every attempt at it."""
    detail = leaderboard.get_job(session, job_id)
    return JobDetailOut.detailed(detail, get_sweep(session, detail.job.sweep_id).sweep.protocol)


@router.get(
    "/sweeps/{sweep_id}/export.csv", response_class=StreamingResponse, responses=sends("text/csv")
)
def export_csv(sweep_id: SweepId, request: Request) -> StreamingResponse:
    """Streams one CSV row per architecture, in constant memory."""
    session = request.app.state.session_factory()
    try:
        lines = export.export_csv(session, sweep_id)
    except BaseException:
        session.close()
        raise

    def stream() -> Iterator[str]:
        with session:
            yield from lines

    headers = {"Content-Disposition": f'attachment; filename="sweep-{sweep_id}.csv"'}
    return StreamingResponse(stream(), media_type="text/csv; charset=utf-8", headers=headers)


@router.get(
    "/sweeps/{sweep_id}/plots/scatter.png",
    response_class=Response,
    responses=sends("image/png") | raises(ConflictError),
)
def plot_scatter(sweep_id: SweepId, session: DbSession) -> Response:
    """Draws accuracy against throughput, coloured by ratio."""
    return Response(analysis.plot_scatter(session, sweep_id), media_type="image/png")
