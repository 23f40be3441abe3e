"""All results of a sweep as columns; the answers of a network by image, and its neighbours."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from api.deps import JobId, ReadingSession, SelectedResults, SweepId
from api.openapi.document import raises
from api.openapi.filter_parameters import FILTER_PARAMETERS
from api.schemas.explore import AnswersByImageOut, NeighbourOut, PointsOut
from services.analysis.answers import tally_answers
from services.analysis.neighbours import find_neighbours
from services.analysis.points import load_points
from shared.domain.columns import PLOTTABLE
from shared.domain.errors import NoResultsError, NotComparableError

router = APIRouter(prefix="/v1", tags=["results"])

PointFields = Annotated[
    str,
    Query(max_length=200, description="Comma-separated, of: " + ", ".join(PLOTTABLE)),
]


@router.get(
    "/sweeps/{sweep_id}/points",
    response_class=JSONResponse,
    responses={int(HTTPStatus.OK): {"model": PointsOut}},
    openapi_extra=FILTER_PARAMETERS,
)
def list_points(
    sweep_id: SweepId,
    session: ReadingSession,
    selection: SelectedResults,
    fields: PointFields = "accuracy,throughput,ratio",
) -> Response:
    """Lists fields of every network that passes the filters, as columns, without pages."""
    points = load_points(session, sweep_id, selection, fields.split(","))
    return Response(PointsOut.json_of(sweep_id, points), media_type="application/json")


@router.get("/jobs/{job_id}/answers", responses=raises(NoResultsError, NotComparableError))
def show_answers(job_id: JobId, session: ReadingSession) -> AnswersByImageOut:
    """Number of trials that classified each validation image correctly, and accuracy by class."""
    return AnswersByImageOut.of(tally_answers(session, job_id))


@router.get("/jobs/{job_id}/neighbours")
def list_neighbours(job_id: JobId, session: ReadingSession) -> list[NeighbourOut]:
    """Lists the sweep's networks that differ from this one in a single setting, 500 at most."""
    return [NeighbourOut.of(neighbour) for neighbour in find_neighbours(session, job_id)]
