"""``/v1/sweeps``: previewing, creating, reading and controlling sweeps."""

import structlog
from fastapi import APIRouter, Response, status
from pydantic import ValidationError

from api.computing import tasks
from api.computing.pool import HEAVY, Computations
from api.deps import (
    ActionName,
    DbSession,
    IdempotencyKey,
    KeyPrefix,
    PageSize,
    PageToken,
    ReadingSession,
    SweepId,
)
from api.json_body import JsonRoute
from api.openapi.document import raises
from api.schemas.sweeps import (
    CreatedSweepOut,
    ExtensionIn,
    PreviewOut,
    SweepIn,
    SweepOut,
    SweepPageOut,
)
from services.sweeps import control, creation, reading
from services.sweeps.warnings import find_warnings
from shared.domain.errors import (
    ConflictError,
    IdempotencyKeyReusedError,
    IllegalTransitionError,
    InvalidInputError,
)
from shared.domain.protocol import Protocol

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"], route_class=JsonRoute)
log = structlog.get_logger(__name__)


def _protocol(body: SweepIn) -> Protocol:
    try:
        return body.resolved_protocol()
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["protocol", *map(str, first["loc"])])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidInputError(f"{field}: {message}", field=field) from error


@router.post("/preview", response_model=PreviewOut, responses=raises(*HEAVY))
async def preview(body: SweepIn, computing: Computations) -> Response:
    """Shows what a sweep would contain; creates nothing."""
    return await computing.json(tasks.preview, body.resolved_space(), _protocol(body))


@router.post("", status_code=status.HTTP_201_CREATED, responses=raises(IdempotencyKeyReusedError))
def create(
    body: SweepIn,
    session: DbSession,
    response: Response,
    caller: KeyPrefix,
    key: IdempotencyKey = None,
) -> CreatedSweepOut:
    """Creates a sweep with one job per architecture, all of them or none.

    With an `Idempotency-Key` a repeated request is safe: the same body gets the same sweep, another
    body is a conflict. Two API keys may use the same one; each creates a sweep of its own.
    """
    protocol = _protocol(body)
    sweep = creation.create_sweep(
        session,
        body.resolved_space(),
        protocol,
        body.name,
        idempotency_key=key,
        idempotency_scope=caller,
    )
    log.info("sweep_created", sweep_id=sweep.id, jobs=sweep.total)
    response.headers["Location"] = f"/v1/sweeps/{sweep.id}"
    state = reading.get_sweep(session, sweep.id)
    return CreatedSweepOut.created(state, find_warnings(session, protocol))


@router.get("")
def list_sweeps(
    session: ReadingSession, page_size: PageSize = 50, page_token: PageToken = None
) -> SweepPageOut:
    """Lists sweeps, newest first."""
    page = reading.list_sweeps(session, page_size=page_size, page_token=page_token)
    sweeps = [SweepOut.of(state) for state in page.items]
    return SweepPageOut(sweeps=sweeps, next_page_token=page.next_page_token)


@router.get("/{sweep_id}")
def show(sweep_id: SweepId, session: ReadingSession) -> SweepOut:
    """Shows a sweep with its jobs by state, rate and remaining time."""
    return SweepOut.of(reading.get_sweep(session, sweep_id))


@router.post("/{sweep_id}/extend", responses=raises(IllegalTransitionError, ConflictError))
def extend(sweep_id: SweepId, body: ExtensionIn, session: DbSession) -> SweepOut:
    """Measures more trials of every completed or pending job, or only of the leaders.

    Results stay and keep their rank meanwhile. A completed or cancelled sweep runs again.
    """
    control.extend_sweep(session, sweep_id, trials=body.trials, top=body.top)
    return show(sweep_id, session)


@router.post("/{sweep_id}/{action:action}", responses=raises(IllegalTransitionError))
def control_sweep(sweep_id: SweepId, action: ActionName, session: DbSession) -> SweepOut:
    """Pauses, resumes, cancels or retries a sweep.

    `pause` stops new claims; groups that are running finish. `resume` lets a paused sweep continue.
    `cancel` ends every unfinished job for good; those with results complete with the trials that
    they have. `retry` makes failed jobs pending, attempts counted from zero; a completed sweep runs
    again.
    """
    control.control_sweep(session, sweep_id, action)
    return show(sweep_id, session)
