"""Results of a sweep: leaderboard and jobs with their trials."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic_core import to_json

from api.deps import (
    FitnessWeight,
    JobId,
    PageSize,
    PageToken,
    ReadingSession,
    RowFilters,
    SweepId,
)
from api.openapi.filter_parameters import FILTER_PARAMETERS
from api.schemas.jobs import JobDetailOut, JobOut, JobPageOut
from api.schemas.leaderboard import LeaderboardOut, leaderboard_fields
from services.leaderboard import leaders
from services.leaderboard.filters import DEFAULT_SORT
from services.sweeps.reading import load_sweep
from shared.domain.results.columns import SORTABLE
from shared.domain.results.ranking import FITNESS_WEIGHT
from shared.domain.status import JobStatus

router = APIRouter(prefix="/v1", tags=["results"])

Sort = Annotated[
    str,
    Query(
        max_length=200,
        description="Columns, comma-separated; a minus sorts in descending order: "
        + ", ".join(SORTABLE),
    ),
]


@router.get(
    "/sweeps/{sweep_id}/leaderboard",
    response_model=LeaderboardOut,
    openapi_extra=FILTER_PARAMETERS,
)
def show_leaderboard(
    sweep_id: SweepId,
    session: ReadingSession,
    filters: RowFilters,
    sort: Sort = DEFAULT_SORT,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> Response:
    """Ranks the networks that pass the filters; default: all with results."""
    page = leaders.rank_jobs(
        session,
        sweep_id,
        filters,
        sort=sort,
        fitness_weight=fitness_weight,
        page_size=page_size,
        page_token=page_token,
    )
    content = to_json(leaderboard_fields(sweep_id, page), inf_nan_mode="null")
    return Response(content, media_type="application/json")


@router.get("/sweeps/{sweep_id}/jobs")
def list_jobs(
    sweep_id: SweepId,
    session: ReadingSession,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> JobPageOut:
    """Lists a sweep's jobs by id, of one state or all."""
    page = leaders.list_jobs(
        session, sweep_id, status=status, page_size=page_size, page_token=page_token
    )
    jobs = [JobOut.of(job) for job in page.items]
    return JobPageOut(jobs=jobs, next_page_token=page.next_page_token)


@router.get("/jobs/{job_id}")
def show_job(job_id: JobId, session: ReadingSession) -> JobDetailOut:
    """Shows one job with its trials, where each was measured, and every attempt at it."""
    detail = leaders.get_job_detail(session, job_id)
    return JobDetailOut.detailed(detail, load_sweep(session, detail.job.sweep_id).protocol)
