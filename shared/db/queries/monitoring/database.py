"""SQL about the database as a whole."""

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


def select_tables(session: Session) -> list[str]:
    """Returns the names of all tables, including those that this project did not create."""
    statement = sql("""
        SELECT tablename FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
    """)
    return list(session.execute(statement).scalars())


def select_one(session: Session) -> None:
    """Runs a statement that needs nothing but a working connection.

    Raises:
        sqlalchemy.exc.OperationalError: the database does not answer.
    """
    session.execute(sql("SELECT 1"))
