"""SQL about the database as a whole."""

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


def select_tables(session: Session) -> list[str]:
    """Returns the names of the tables that are there, whoever made them."""
    statement = sql("""
        SELECT tablename FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
    """)
    return list(session.execute(statement).scalars())
