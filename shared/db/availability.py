"""Which errors mean that the database is unavailable, what users read, and trying again."""

from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)
from tenacity.stop import stop_base

log = structlog.get_logger(__name__)

DATABASE_UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)


def log_unavailable(error: BaseException) -> None:
    """Logs the first line of an error that means that the database is unavailable."""
    log.warning("database_unavailable", error=str(error).splitlines()[0])


def explain_unreachable(error: OperationalError) -> str:
    """Returns the message for users when the database cannot be reached."""
    return f"The database cannot be reached: {cause_of(error)} (see CONVSWEEP_DATABASE_URL)"


def cause_of(error: DBAPIError) -> str:
    """Returns the first line of what Postgres or its driver reported."""
    return str(error.orig).strip().splitlines()[0]


def retry_while_unavailable(
    *, max_s: float, pause_s: float, should_stop: Callable[[], bool] | None = None
) -> Retrying:
    """Returns a tenacity controller that repeats a call while the database is unavailable.

    The call ends with the last error after ``max_s`` seconds, or after the first failure at which
    ``should_stop`` returns true.
    """
    stop: stop_base = stop_after_delay(max_s)
    if should_stop is not None:
        stop |= _StopWhen(should_stop)
    return Retrying(
        retry=retry_if_exception_type(DATABASE_UNAVAILABLE),
        stop=stop,
        wait=wait_fixed(pause_s),
        after=_log_attempt,
        reraise=True,
    )


class _StopWhen(stop_base):
    """Ends the attempts when a function returns true."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002
        return self._should_stop()


def _log_attempt(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    if error is not None:
        log_unavailable(error)
