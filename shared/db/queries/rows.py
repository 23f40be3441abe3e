"""Typed rows: dataclasses whose fields are the columns that a statement returns."""

from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Result

from shared.domain.architecture import Architecture

RowT = TypeVar("RowT")


def read_rows(kind: type[RowT], result: Result[Any]) -> list[RowT]:
    """Returns the rows of a result as ``kind``.

    Raises:
        TypeError: the names of the columns are not those of the fields.
    """
    return [kind(**row._asdict()) for row in result]


def read_row(kind: type[RowT], result: Result[Any]) -> RowT | None:
    """Returns the only row of a result as ``kind``; None where there is none.

    Raises:
        TypeError: the names of the columns are not those of the fields.
        sqlalchemy.exc.MultipleResultsFound: there are several rows.
    """
    row = result.one_or_none()
    return None if row is None else kind(**row._asdict())


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerColumns:
    """The columns that describe a network: one entry per layer in each."""

    channels: list[int]  # output channels
    kernel_size: list[int]
    stride: list[int]
    dilation: list[int]
    padding: list[int]
    activation: list[str]

    @property
    def architecture(self) -> Architecture:
        return Architecture.of_columns(
            self.channels, self.kernel_size, self.stride, self.dilation, self.padding,
            self.activation,
        )  # fmt: skip
