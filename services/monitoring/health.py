"""Whether the database answers."""

from sqlalchemy.orm import Session

from shared.db.queries.monitoring import database as database_queries


def check_database(session: Session) -> None:
    """Returns if the database answers.

    Raises:
        sqlalchemy.exc.OperationalError: it does not.
    """
    database_queries.select_one(session)
