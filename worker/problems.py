"""What keeps this worker from sweeps and trainings, in memory and in the database."""

import time
import uuid
from collections.abc import Hashable
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session, sessionmaker

from services.monitoring import workers
from shared.db.availability import DATABASE_UNAVAILABLE, log_unavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """A sweep's networks, or one of its trainings."""

    sweep_id: int
    training_id: int | None = None


class WaitingReport:
    """Records in the database that this worker waits for its device."""

    def __init__(self, session_factory: sessionmaker[Session], worker_id: uuid.UUID) -> None:
        self._session_factory = session_factory
        self._worker_id = worker_id

    def __call__(self, problem: str | None) -> None:
        """Records what this worker waits for; None once it waits no longer."""
        if problem is not None:
            log.warning("waiting_for_device", problem=problem)
        try:
            with self._session_factory.begin() as session:
                workers.note_worker_waiting(session, self._worker_id, problem)
        except DATABASE_UNAVAILABLE as error:
            log_unavailable(error)  # the work goes on


class Problems:
    """Records why this worker cannot do some work, and spares it repeated looks at the cause.

    Args:
        look_again_s: how long a cause is taken to last before it is examined again.
    """

    def __init__(
        self, session_factory: sessionmaker[Session], worker_id: uuid.UUID, look_again_s: float
    ) -> None:
        self._session_factory = session_factory
        self._worker_id = worker_id
        self._look_again_s = look_again_s
        self._recorded: dict[Work, str] = {}
        self._causes: dict[Hashable, tuple[str, float]] = {}  # with the time of the look

    def recent(self, cause: Hashable) -> str | None:
        """Returns the problem that ``cause`` had at a recent look; None where it is time to look.

        ``cause`` identifies what was examined: equal causes have the same problem.
        """
        problem, looked_at = self._causes.get(cause, ("", 0.0))
        is_recent = time.monotonic() - looked_at < self._look_again_s
        return problem if problem and is_recent else None

    def note(self, work: Work, problem: str, cause: Hashable = None) -> None:
        """Records why this worker cannot do some work; only a change is logged."""
        if cause is not None:
            self._causes[cause] = problem, time.monotonic()
        with self._session_factory.begin() as session:
            workers.note_worker_problem(
                session, self._worker_id, work.sweep_id, problem, training_id=work.training_id
            )
        if self._recorded.get(work) != problem:
            log.warning("cannot_work", sweep_id=work.sweep_id, problem=problem)
        self._recorded[work] = problem

    def clear(self, work: Work, cause: Hashable = None) -> None:
        """Records that this worker can do the work."""
        self._causes.pop(cause, None)
        if work not in self._recorded:
            return
        with self._session_factory.begin() as session:
            workers.clear_worker_problem(
                session, self._worker_id, work.sweep_id, training_id=work.training_id
            )
        del self._recorded[work]
        log.info("can_work_again", sweep_id=work.sweep_id)
