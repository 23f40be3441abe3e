"""Trainings: creating, reading and controlling them; their curves, tables and weights."""

from pathlib import PurePath
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response, status
from fastapi.responses import FileResponse

from api.computing import plot_tasks, tasks
from api.computing.pool import HEAVY, Computations
from api.deps import ActionName, DbSession, PageSize, PageToken, ReadingSession, SweepId
from api.json_body import JsonRoute
from api.openapi.document import raises, sends
from api.schemas.trainings import (
    ControlledOut,
    ProbeVsTrainedList,
    TrainingDetailOut,
    TrainingOut,
    TrainingPageOut,
    TrainingsIn,
    TrainingsOut,
)
from services.sweeps.reading import load_sweep
from services.trainings import control, creation, reading
from services.trainings.tables import TableFormat, draw_table
from shared.domain.errors import (
    IllegalTransitionError,
    InvalidFilterError,
    NoResultsError,
    UnknownFilterError,
    WeightsMissingError,
)
from shared.domain.ids import MAX_ID
from shared.domain.results.choices import PlotFormat
from shared.domain.status import TrainingStatus

router = APIRouter(prefix="/v1", tags=["trainings"], route_class=JsonRoute)
log = structlog.get_logger(__name__)

SAFETENSORS = "application/octet-stream"

TrainingId = Annotated[int, Path(ge=1, le=MAX_ID, description="The number of a training.")]
BestOf = Annotated[
    int | None,
    Query(
        ge=1,
        le=10_000,
        description="The k of precision at k; a quarter of the networks if left out.",
    ),
]
StatusFilter = Annotated[TrainingStatus | None, Query(description="Only trainings in this state.")]


@router.post(
    "/sweeps/{sweep_id}/trainings",
    status_code=status.HTTP_201_CREATED,
    responses=raises(NoResultsError, UnknownFilterError, InvalidFilterError),
)
def create_trainings(
    sweep_id: SweepId, wanted: TrainingsIn, session: DbSession, response: Response
) -> TrainingsOut:
    """Trains networks of a sweep by gradient descent: one training per network, width and seed.

    Existing trainings are returned and not trained again, so a repeated request is safe.
    """
    created = creation.create_trainings(session, sweep_id, wanted.select, wanted.recipes())
    log.info("trainings_created", trainings=created.created)
    response.headers["Location"] = f"/v1/sweeps/{sweep_id}/trainings"
    rows = [TrainingOut.of(row) for row in created.trainings]
    return TrainingsOut(created=created.created, trainings=rows)


@router.get("/sweeps/{sweep_id}/trainings")
def list_trainings(
    sweep_id: SweepId,
    session: ReadingSession,
    status: StatusFilter = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> TrainingPageOut:
    """Lists a sweep's trainings with their results so far."""
    return TrainingPageOut.of(
        reading.list_trainings(
            session, sweep_id, status=status, page_size=page_size, page_token=page_token
        )
    )


@router.get(
    "/sweeps/{sweep_id}/trainings.{table_format}",
    response_class=Response,
    responses=sends(*(member.media_type for member in TableFormat)),
)
def show_training_table(
    sweep_id: SweepId,
    table_format: Annotated[TableFormat, Path(description="The format of the table.")],
    session: ReadingSession,
    status: StatusFilter = None,
) -> Response:
    """The experiment's table of trained networks as Markdown or CSV."""
    drawn = draw_table(reading.every_training(session, sweep_id, status), table_format)
    return Response(drawn, media_type=table_format.media_type)


@router.post("/sweeps/{sweep_id}/trainings/{action:action}")
def control_trainings(sweep_id: SweepId, action: ActionName, session: DbSession) -> ControlledOut:
    """Pauses, resumes, cancels or retries the trainings of a sweep whose states permit it."""
    return ControlledOut(changed=control.control_trainings(session, sweep_id, action))


@router.get(
    "/sweeps/{sweep_id}/probe-vs-trained",
    response_model=ProbeVsTrainedList,
    responses=raises(NoResultsError, *HEAVY),
)
async def compare_probe_with_training(
    sweep_id: SweepId,
    computing: Computations,
    k: BestOf = None,
) -> Response:
    """Does the probe predict training? Rank correlations and precision at k, beside baselines."""
    return await computing.json(tasks.probe_vs_trained, sweep_id, k)


@router.get(
    "/sweeps/{sweep_id}/probe-vs-trained.{file_format}",
    response_class=Response,
    responses=sends(*(member.media_type for member in PlotFormat)) | raises(NoResultsError, *HEAVY),
)
async def plot_probe_with_training(
    sweep_id: SweepId,
    file_format: Annotated[PlotFormat, Path(description="The format of the file.")],
    computing: Computations,
) -> Response:
    """Draws trained against probe accuracy, one colour per recipe, as PNG or SVG."""
    return await computing.file(
        file_format.media_type, plot_tasks.probe_vs_trained_plot, sweep_id, file_format
    )


@router.get("/trainings/{training_id}")
def show_training(training_id: TrainingId, session: ReadingSession) -> TrainingDetailOut:
    """Shows one training with its curve, and code that loads its weights."""
    found, epochs = reading.get_training(session, training_id)
    protocol = load_sweep(session, found.sweep_id).protocol
    return TrainingDetailOut.detailed(found, epochs, protocol["input_shape"][0])


@router.post("/trainings/{training_id}/{action:action}", responses=raises(IllegalTransitionError))
def control_training(
    training_id: TrainingId, action: ActionName, session: DbSession
) -> TrainingDetailOut:
    """Pauses, resumes, cancels or retries one training; it continues from its last checkpoint."""
    control.control_training(session, training_id, action)
    return show_training(training_id, session)


@router.get(
    "/trainings/{training_id}/weights",
    response_class=Response,
    responses=sends(SAFETENSORS) | raises(WeightsMissingError),
)
def download_weights(
    training_id: TrainingId, session: ReadingSession, request: Request
) -> FileResponse:
    """Returns the best weights as safetensors, if the API can read the shared folder."""
    found, _ = reading.get_training(session, training_id)
    if found.weights is None:
        raise WeightsMissingError(
            f"Training {training_id} is {found.status} and has no weights"
            + (f": {found.note}" if found.note else ".")
        )
    # a worker wrote this name, so only its last part is used
    file = request.app.state.trainings_dir / PurePath(found.weights).name
    if not file.is_file():
        raise WeightsMissingError(
            f"The weights of training {training_id} are in {found.weights} in the workers' folder "
            "of trainings, which the API cannot see. Let CONVSWEEP_TRAINING_DIR be one shared "
            "folder."
        )
    name = f"training-{training_id}.safetensors"
    return FileResponse(file, filename=name, media_type=SAFETENSORS)
