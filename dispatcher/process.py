"""The dispatcher process: keeps hints in the queue and ends the leases of lost workers."""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from types import FrameType

import structlog
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from services.dispatching.dispatch import reap_expired_leases, send_hints
from shared.db.session import make_engine, make_session_factory
from shared.logs import configure_logging
from shared.messaging.queue import HintQueue, make_celery
from shared.settings import Settings

log = structlog.get_logger(__name__)

RETRY_S = 0.5
TURN_S = 10.0  # a dispatcher that hangs during its turn loses it to another after this
HURRY = 10  # maximum speed-up of the polling rate
FAST, SLOW = 1 / 4, 1 / 8  # shares of the backlog taken since the last poll: poll sooner, later


def run_dispatcher(settings: Settings) -> None:
    """Dispatches until SIGTERM or SIGINT. Any number of dispatchers at once is safe.

    Expired leases are ended in a thread and on a connection of their own, so that a broker that is
    unavailable or silent does not delay the return of lost jobs.
    """
    configure_logging(settings)
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    engine = make_engine(settings, pool_size=2, idle_in_transaction_s=TURN_S)
    dispatch = _Dispatch(settings, make_session_factory(engine))
    log.info("dispatcher_started", backlog=settings.backlog)
    with ThreadPoolExecutor() as pool:
        duties = [
            pool.submit(_repeat, duty, stopped, settings.alive_file)
            for duty in (dispatch.reap, dispatch.send)
        ]
        wait(duties, return_when=FIRST_EXCEPTION)
        stopped.set()
    for duty in duties:
        duty.result()  # raises the error that ended it early
    log.info("dispatcher_stopped")


class _Dispatch:
    """The two duties; each does one step and returns the pause before the next, in seconds."""

    def __init__(self, settings: Settings, session_factory: sessionmaker[Session]) -> None:
        self._settings = settings
        self._session_factory = session_factory
        self._hints = HintQueue(make_celery(settings))
        self._pause_s = settings.dispatch_interval_s

    def reap(self) -> float:
        with self._session_factory.begin() as session:
            jobs = reap_expired_leases(session, max_attempts=self._settings.max_attempts)
        if jobs:
            log.warning("leases_expired", jobs=jobs)
        return self._settings.dispatch_interval_s

    def send(self) -> float:
        """Fills the backlog, sooner again while workers empty it, so that it never runs dry."""
        share = self._fill() / self._settings.backlog
        if share > FAST:
            self._pause_s = max(self._pause_s / 2, self._settings.dispatch_interval_s / HURRY)
        elif share < SLOW:
            self._pause_s = min(self._pause_s * 2, self._settings.dispatch_interval_s)
        return self._pause_s

    def _fill(self) -> int:
        backlog, resend_s = self._settings.backlog, self._settings.resend_s
        if len(self._hints) >= backlog:  # checked first: a silent broker then holds up no turn
            return 0
        with self._session_factory.begin() as session:
            return send_hints(session, self._hints, backlog=backlog, resend_s=resend_s)


def _repeat(duty: Callable[[], float], stopped: threading.Event, alive_file: Path | None) -> None:
    pause_s = 0.0
    while not stopped.wait(pause_s):
        if alive_file is not None:
            alive_file.touch()
        try:
            pause_s = duty()
        except (SQLAlchemyError, BrokerError) as error:
            log.warning("dispatch_failed", error=str(error).splitlines()[0])
            pause_s = RETRY_S
