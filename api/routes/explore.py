"""All results of a sweep as columns; the answers of a network by image, and its neighbours."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.computing import tasks
from api.computing.pool import HEAVY, Computations
from api.deps import JobId, ReadingSession, SelectedResults, SweepId
from api.openapi.document import raises
from api.openapi.filter_parameters import FILTER_PARAMETERS
from api.schemas.explore import AnswersByImageOut, NeighbourOut, PointsOut
from services.analysis.neighbours import find_neighbours
from shared.domain.errors import NoResultsError, NotComparableError
from shared.domain.results.columns import PLOTTABLE

router = APIRouter(prefix="/v1", tags=["results"])

PointFields = Annotated[
    str,
    Query(max_length=200, description="Comma-separated, of: " + ", ".join(PLOTTABLE)),
]


@router.get(
    "/sweeps/{sweep_id}/points",
    response_model=PointsOut,
    responses=raises(*HEAVY),
    openapi_extra=FILTER_PARAMETERS,
)
async def list_points(
    sweep_id: SweepId,
    computing: Computations,
    selection: SelectedResults,
    fields: PointFields = "accuracy,throughput,ratio",
) -> Response:
    """Lists fields of every network that passes the filters, as columns, without pages."""
    return await computing.json(tasks.points, sweep_id, selection, fields.split(","))


@router.get(
    "/jobs/{job_id}/answers",
    response_model=AnswersByImageOut,
    responses=raises(NoResultsError, NotComparableError, *HEAVY),
)
async def show_answers(job_id: JobId, computing: Computations) -> Response:
    """Number of trials that classified each validation image correctly, and accuracy by class."""
    return await computing.json(tasks.answers, job_id)


@router.get("/jobs/{job_id}/neighbours")
def list_neighbours(job_id: JobId, session: ReadingSession) -> list[NeighbourOut]:
    """Lists the sweep's networks that differ from this one in a single setting, 500 at most."""
    return [NeighbourOut.of(neighbour) for neighbour in find_neighbours(session, job_id)]
