"""Which worker processes exist, what they do, and what keeps them from it."""

from sqlalchemy import RowMapping
from sqlalchemy.orm import Session

from shared.db.queries import workers as worker_queries

SEEN_WITHIN_S = 120.0


def list_workers(session: Session) -> list[RowMapping]:
    """Returns the workers seen in the last two minutes, each with the group it holds, if any."""
    return worker_queries.select_workers(session, seen_within_s=SEEN_WITHIN_S)


def check_database(session: Session) -> None:
    """Returns when the database answers.

    Raises:
        sqlalchemy.exc.OperationalError: it does not.
    """
    worker_queries.select_one(session)
