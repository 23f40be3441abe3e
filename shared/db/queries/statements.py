"""Running statements: cached texts, prepared texts, affected rows, COPY."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import CursorResult, Dialect, Result, Row, Select, TextClause, text
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.orm import Session


@cache
def sql(statement: str) -> TextClause:
    """Returns a statement for SQLAlchemy; its parameters are parsed once per process."""
    return text(statement)


_DIALECT: Dialect = psycopg2.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement compiled for the driver once: compiling costs more than running it."""

    text: str
    values: Mapping[str, Any]  # of the parameters that never change

    @classmethod
    def of(cls, statement: Select[*tuple[Any, ...]]) -> "Prepared":
        compiled = statement.compile(dialect=_DIALECT)
        return cls(str(compiled), compiled.params)

    def rows(self, session: Session, values: Mapping[str, Any]) -> list[Row[Any]]:
        """Runs the statement with values for its parameters."""
        given = {**self.values, **values}
        return list(session.connection().exec_driver_sql(self.text, given))


def affected_rows(result: Result[Any]) -> int:
    """Returns the number of rows that an INSERT, UPDATE or DELETE affected."""
    assert isinstance(result, CursorResult)
    return result.rowcount


def copy_rows(session: Session, statement: str, lines: Iterable[str]) -> None:
    """Runs a COPY statement on lines in its text format, inside the session's transaction."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    with connection.cursor() as cursor:
        cursor.copy_expert(statement, _LineReader(lines), size=262_144)


CSV = "FORMAT csv"
BINARY = "FORMAT binary"
# for values without these two characters, such as JSON: no value is quoted
VERBATIM = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'"


def copy_out(session: Session, statement: Select[*tuple[Any, ...]], options: str) -> bytes:
    """Returns the rows of a statement in a format of COPY.

    COPY takes no parameters, so the driver inserts them as quoted literals.
    """
    connection = session.connection()
    compiled = statement.compile(dialect=connection.dialect)
    raw = connection.connection.driver_connection
    assert raw is not None
    lines = io.BytesIO()
    with raw.cursor() as cursor:
        copy = f"COPY ({compiled}) TO STDOUT ({options})"
        cursor.copy_expert(cursor.mogrify(copy, compiled.params), lines)
    return lines.getvalue()


class _LineReader:
    """A readable file over lines, so that COPY streams them without storing all."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._rest = ""

    def read(self, size: int) -> str:
        parts = [self._rest]
        length = len(self._rest)
        while length < size and (line := next(self._lines, "")):
            parts.append(line)
            length += len(line)
        data = "".join(parts)
        self._rest = data[size:]
        return data[:size]
