"""Pydantic models whose fields are columns of the registry."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, create_model

from shared.domain.results.columns import CHOICES, COLUMNS, TRIAL_COLUMNS, Column, Kind

JOB_COLUMNS = tuple(column for column in COLUMNS if column.table == "jobs")
THROUGHPUT_COLUMNS = tuple(column for column in COLUMNS if column.table == "throughputs")
NETWORK_COLUMNS = tuple(column for column in COLUMNS if column.table != "jobs")
STORED_TRIAL_COLUMNS = tuple(column for column in TRIAL_COLUMNS if column.table == "trials")
TIMING_COLUMNS = tuple(column for column in TRIAL_COLUMNS if column.table == "timings")
_TYPES: dict[Kind, type] = {
    Kind.FRACTION: float,
    Kind.NUMBER: float,
    Kind.COUNT: int,
    Kind.TEXT: str,
    Kind.HEX: str,
    Kind.FLAG: bool,
    Kind.TIME: dt.datetime,
    **CHOICES,
}


def make_columns_model(
    name: str, columns: Sequence[Column], base: type[BaseModel] = BaseModel
) -> Any:
    """Returns a model with a field per column; its descriptions are those of the registry."""
    fields: dict[str, Any] = {column.name: (_type(column), _field(column)) for column in columns}
    return create_model(name, __base__=base, **fields)


def _type(column: Column) -> Any:
    kind = _TYPES[column.kind]
    return kind if column.required else kind | None


def _field(column: Column) -> Any:
    unit = f" Unit: {column.unit}." if column.unit else ""
    return Field(description=f"{column.description}{unit}")
