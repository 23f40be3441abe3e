"""The dispatcher process: keeps hints in the queue and takes back what vanished workers held."""

import signal
import threading
from types import FrameType

import structlog
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import SQLAlchemyError

from services.dispatch import reap_expired_leases, send_hints
from shared.db.session import make_engine, make_session_factory
from shared.logs import configure_logging
from shared.process import run_main
from shared.queue import HintQueue, make_celery
from shared.settings import Settings, get_settings

log = structlog.get_logger(__name__)

RETRY_S = 2.0
TURN_S = 10.0  # a dispatcher that hangs in the middle of its turn loses it to another after this
HURRY = 10  # looks so many times as often while workers take hints faster than they are sent


def run_dispatcher(settings: Settings) -> None:
    """Dispatches until SIGTERM or SIGINT. Any number of dispatchers at once is safe."""
    configure_logging(settings)
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    engine = make_engine(settings, pool_size=1, idle_in_transaction_s=TURN_S)
    session_factory = make_session_factory(engine)
    hints = HintQueue(make_celery(settings))
    log.info("dispatcher_started", backlog=settings.backlog)
    pause_s = 0.0
    while not stopped.wait(pause_s):
        pause_s = settings.dispatch_interval_s
        if settings.alive_file is not None:
            settings.alive_file.touch()
        try:
            with session_factory.begin() as session:
                taken_back = reap_expired_leases(session, max_attempts=settings.max_attempts)
            if taken_back:
                log.warning("leases_expired", jobs=taken_back)
            with session_factory.begin() as session:
                sent = send_hints(
                    session, hints, backlog=settings.backlog, resend_s=settings.resend_s
                )
            if sent > settings.backlog // 4:
                pause_s = settings.dispatch_interval_s / HURRY
        except (SQLAlchemyError, BrokerError) as error:
            log.warning("dispatch_failed", error=str(error).splitlines()[0])
            pause_s = RETRY_S
    log.info("dispatcher_stopped")


if __name__ == "__main__":
    run_main(lambda: run_dispatcher(get_settings()))
