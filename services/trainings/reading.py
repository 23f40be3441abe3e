"""Reading trainings: one with its epochs, a page, or all of a sweep."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.sweeps.reading import load_sweep
from shared.db.queries.trainings import trainings as training_queries
from shared.db.queries.trainings.trainings import EpochRow, TrainingRow
from shared.domain.errors import TrainingNotFoundError
from shared.domain.page_tokens import read_page_by_id
from shared.domain.status import TrainingStatus

PAGE = 1000


@dataclass(frozen=True, slots=True)
class TrainingPage:
    """A page of trainings by id, and how many of the sweep are in each state."""

    trainings: list[TrainingRow]
    counts: dict[TrainingStatus, int]
    next_page_token: str | None


def list_trainings(
    session: Session,
    sweep_id: int,
    *,
    status: TrainingStatus | None = None,
    page_size: int = 100,
    page_token: str | None = None,
) -> TrainingPage:
    """Returns a page of a sweep's trainings with their results so far.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidPageTokenError: the token is damaged or comes from another listing.
    """
    load_sweep(session, sweep_id)
    page = read_page_by_id(
        ["trainings", sweep_id, status],
        page_token,
        page_size,
        lambda after_id, limit: training_queries.select_trainings(
            session, sweep_id, status=status, after_id=after_id or 0, limit=limit
        ),
    )
    counts = training_queries.count_trainings(session, sweep_id)
    return TrainingPage(
        page.items,
        {state: counts.get(state, 0) for state in TrainingStatus},
        page.next_page_token,
    )


def every_training(
    session: Session, sweep_id: int, status: TrainingStatus | None = None
) -> Iterator[TrainingRow]:
    """Yields all trainings of a sweep, by id.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    load_sweep(session, sweep_id)
    after_id = 0
    while rows := training_queries.select_trainings(
        session, sweep_id, status=status, after_id=after_id, limit=PAGE
    ):
        yield from rows
        after_id = rows[-1].id


def get_training(session: Session, training_id: int) -> tuple[TrainingRow, list[EpochRow]]:
    """Returns a training and its epochs in order.

    Raises:
        TrainingNotFoundError: there is no such training.
    """
    row = training_queries.find_training(session, training_id)
    if row is None:
        raise TrainingNotFoundError(f"There is no training {training_id}.", field="training_id")
    return row, training_queries.select_epochs(session, [training_id])
