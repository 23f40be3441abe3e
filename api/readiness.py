"""Whether the database answers, for probes: asked aside from all other work."""

import asyncio
import time

from anyio import CapacityLimiter, to_thread
from sqlalchemy.orm import Session, sessionmaker

from api.errors import DATABASE_UNAVAILABLE_MESSAGE
from services.monitoring.health import check_database
from shared.db.availability import DATABASE_UNAVAILABLE, log_unavailable
from shared.domain.errors import UnavailableError

FRESH_S = 0.5
PATIENCE_S = 2.0


class Readiness:
    """Asks the database on a connection and in a thread of its own; probes share the answer."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._thread = CapacityLimiter(1)
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = 0.0

    async def check(self) -> None:
        """Returns if the database answers.

        Raises:
            UnavailableError: it does not, or not in time.
        """
        if self._asking is None or self._is_old(self._asking):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
        asking = self._asking
        await asyncio.wait({asking}, timeout=PATIENCE_S)
        if not asking.done() or not asking.result():
            raise UnavailableError(DATABASE_UNAVAILABLE_MESSAGE)

    def _is_old(self, asking: asyncio.Task[bool]) -> bool:
        return asking.done() and time.monotonic() - self._asked_at > FRESH_S

    async def _ask(self) -> bool:
        return await to_thread.run_sync(self._answers, limiter=self._thread, abandon_on_cancel=True)

    def _answers(self) -> bool:
        try:
            with self._sessions() as session:
                check_database(session)
        except DATABASE_UNAVAILABLE as error:
            log_unavailable(error)
            return False
        return True
