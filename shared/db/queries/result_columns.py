"""How the columns of the registry are read from the tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Float, Text, and_, case, func, literal, literal_column
from sqlalchemy.orm import InstrumentedAttribute

from shared.db.models import Environment, Job, Trial
from shared.db.timing_models import JobThroughput, Timing
from shared.domain.architecture import LayerConfig
from shared.domain.results.columns import Column, Kind

_TABLES = {
    "jobs": Job,
    "throughputs": JobThroughput,
    "trials": Trial,
    "timings": Timing,
    "environments": Environment,
}
_ISO_TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def stored_sql(column: Column) -> InstrumentedAttribute[Any]:
    """Returns the database column that holds a column of the registry.

    Raises:
        KeyError: a query computes the column.
    """
    attribute: InstrumentedAttribute[Any]
    attribute = getattr(_TABLES[column.table or ""], column.stored_name)
    return attribute


def timing_of_trial() -> ColumnElement[bool]:
    """Returns the condition that a timing was made with a trial; a trial has at most one."""
    return and_(Timing.job_id == Trial.job_id, Timing.trial == Trial.trial)


def layer_sql(field: str, layer: int) -> ColumnElement[Any]:
    """Returns a setting of a layer; null where a network does not have the layer."""
    element: ColumnElement[Any] = getattr(Job, field)[layer + 1]  # Postgres counts from 1
    return element


def written_columns(
    columns: Iterable[Column], computed: dict[str, ColumnElement[Any]], depth: int
) -> list[ColumnElement[Any]]:
    """Returns columns as exports write them: bytes in hexadecimal, times in ISO 8601, in UTC.

    The settings of the first ``depth`` layers follow the architecture's hash.
    """
    written: list[ColumnElement[Any]] = []
    for column in columns:
        value = computed[column.name] if column.name in computed else stored_sql(column)
        written.append(_as_written(column, value).label(column.name))
        if column.name == "architecture_hash":
            written += layer_columns(depth)
    return written


def layer_columns(depth: int) -> Sequence[ColumnElement[Any]]:
    """Returns the settings of the first ``depth`` layers, such as ``kernel_size_0``."""
    return [
        layer_sql(field, layer).label(f"{field}_{layer}")
        for layer in range(depth)
        for field in LayerConfig._fields
    ]


def _as_written(column: Column, value: Any) -> ColumnElement[Any]:
    if column.kind is Kind.HEX:
        return func.encode(value, literal("hex", Text), type_=Text)
    if column.kind is Kind.TIME:
        in_utc = func.timezone("UTC", value)
        return func.to_char(in_utc, literal(_ISO_TIME, Text), type_=Text)
    if column.kind in (Kind.FRACTION, Kind.NUMBER):
        return _finite(value)
    element: ColumnElement[Any] = value
    return element


def _finite(value: Any) -> ColumnElement[Any]:
    """Returns a number, or null for one that files do not have: NaN is greater than infinity."""
    infinity = literal_column("'Infinity'::float8", Float)
    return case((and_(value < infinity, value > -infinity), value), else_=None)
