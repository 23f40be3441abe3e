"""``/v1/sweeps``: previewing, creating, watching and steering sweeps."""

import structlog
from fastapi import APIRouter, Response, status
from pydantic import ValidationError

from api.deps import DbSession, IdempotencyKey, PageSize, PageToken, ReadingSession, SweepId
from api.openapi.document import raises
from api.schemas.sweeps import ExtensionIn, PreviewOut, SweepIn, SweepOut, SweepPageOut
from services.sweeps import sweeps as sweep_services
from shared.domain.errors import (
    ConflictError,
    IdempotencyKeyReusedError,
    IllegalTransitionError,
    InvalidInputError,
)
from shared.domain.protocol import Protocol

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"])
log = structlog.get_logger(__name__)


def _protocol(wanted: SweepIn) -> Protocol:
    try:
        return wanted.resolved_protocol()
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["protocol", *map(str, first["loc"])])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidInputError(f"{field}: {message}", field=field) from error


@router.post("/preview")
def preview(wanted: SweepIn) -> PreviewOut:
    """Says what a sweep would hold; creates nothing."""
    return PreviewOut.of(sweep_services.preview_sweep(wanted.resolved_space(), _protocol(wanted)))


@router.post("", status_code=status.HTTP_201_CREATED, responses=raises(IdempotencyKeyReusedError))
def create(
    wanted: SweepIn, session: DbSession, response: Response, key: IdempotencyKey = None
) -> SweepOut:
    """Creates a sweep with one job per architecture, all of them or none.

    With an `Idempotency-Key` asking again is safe: the same body gets the same sweep, another body
    is a conflict.
    """
    sweep = sweep_services.create_sweep(
        session, wanted.resolved_space(), _protocol(wanted), wanted.name, idempotency_key=key
    )
    log.info("sweep_created", sweep_id=sweep.id, jobs=sweep.total)
    response.headers["Location"] = f"/v1/sweeps/{sweep.id}"
    return SweepOut.of(sweep_services.get_sweep(session, sweep.id))


@router.get("")
def list_sweeps(
    session: ReadingSession, page_size: PageSize = 50, page_token: PageToken = None
) -> SweepPageOut:
    """Lists sweeps, newest first."""
    page = sweep_services.list_sweeps(session, page_size=page_size, page_token=page_token)
    sweeps = [SweepOut.of(state) for state in page.items]
    return SweepPageOut(sweeps=sweeps, next_page_token=page.next_page_token)


@router.get("/{sweep_id}")
def show(sweep_id: SweepId, session: ReadingSession) -> SweepOut:
    """Shows a sweep: jobs by state, rate and time left."""
    return SweepOut.of(sweep_services.get_sweep(session, sweep_id))


@router.post("/{sweep_id}/pause", responses=raises(IllegalTransitionError))
def pause(sweep_id: SweepId, session: DbSession) -> SweepOut:
    """Stops new claims; groups that run now finish."""
    sweep_services.pause_sweep(session, sweep_id)
    return show(sweep_id, session)


@router.post("/{sweep_id}/resume", responses=raises(IllegalTransitionError))
def resume(sweep_id: SweepId, session: DbSession) -> SweepOut:
    """Lets a paused sweep go on."""
    sweep_services.resume_sweep(session, sweep_id)
    return show(sweep_id, session)


@router.post("/{sweep_id}/cancel", responses=raises(IllegalTransitionError))
def cancel(sweep_id: SweepId, session: DbSession) -> SweepOut:
    """Cancels every unfinished job for good."""
    sweep_services.cancel_sweep(session, sweep_id)
    return show(sweep_id, session)


@router.post("/{sweep_id}/retry", responses=raises(IllegalTransitionError))
def retry(sweep_id: SweepId, session: DbSession) -> SweepOut:
    """Hands the failed jobs out again, attempts counted anew; a completed sweep runs again."""
    sweep_services.retry_sweep(session, sweep_id)
    return show(sweep_id, session)


@router.post("/{sweep_id}/extend", responses=raises(IllegalTransitionError, ConflictError))
def extend(sweep_id: SweepId, wanted: ExtensionIn, session: DbSession) -> SweepOut:
    """Measures more trials of every job that completed or waits, or of the leaders alone."""
    sweep_services.extend_sweep(session, sweep_id, trials=wanted.trials, top=wanted.top)
    return show(sweep_id, session)
