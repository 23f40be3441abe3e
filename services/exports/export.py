"""Results as files, streamed: CSV, JSON Lines or Parquet, a row per architecture or per trial.

Ranges of jobs are read one after the other, each in a short transaction of its own: a slow
reader holds no connection, and no time limit of the database applies to the whole export.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import Select
from sqlalchemy.orm import Session

from services.analysis.statistics.intervals import t_quantile
from services.leaderboard.filters import Filters
from services.leaderboard.leaders import select_scale
from services.sweeps.device_choice import choose_device
from services.sweeps.reading import load_sweep
from shared.db.queries.exports import rows as export_queries
from shared.domain.protocol import MAX_TRIALS
from shared.domain.results.choices import ExportFormat, ExportRows
from shared.domain.results.ranking import FITNESS_WEIGHT

CHUNK_BYTES = 4 * 2**20  # approximate size of one range of jobs
ROW_GROUP_ROWS = 65_536
_FIRST_RANGE = 256
_MOST_JOBS = {"architectures": 20_000, "trials": 2_000}  # of one range


@dataclass(frozen=True, slots=True)
class _Export:
    """The rows to export, looked up before the first byte."""

    open_session: Callable[[], Session]
    statement: Select[Any]
    first_id: int
    last_id: int
    most_jobs: int

    @property
    def columns(self) -> dict[str, type]:
        """Names of the columns and the types of their values."""
        chosen = self.statement.selected_columns
        return {str(column.key): column.type.python_type for column in chosen}

    def chunks(self, copy: Callable[[Session, Select[Any], int, int], bytes]) -> Iterator[bytes]:
        """Yields the rows of one range of jobs after the other, ranges of about the same size."""
        first, jobs = self.first_id, _FIRST_RANGE
        while first <= self.last_id:
            with self.open_session() as session:
                chunk = copy(session, self.statement, first, first + jobs)
            first += jobs
            if chunk:
                yield chunk
            growth = min(2.0, CHUNK_BYTES / max(1, len(chunk)))
            jobs = max(1, min(int(jobs * growth), self.most_jobs))


def export_rows(
    open_session: Callable[[], Session],
    sweep_id: int,
    filters: Filters = Filters(),  # noqa: B008
    *,
    form: ExportFormat = ExportFormat.CSV,
    rows: ExportRows = ExportRows.ARCHITECTURES,
    fitness_weight: float = FITNESS_WEIGHT,
) -> Iterator[bytes]:
    """Yields a file of a sweep's rows that pass the filters, by job id, in constant memory.

    Every architecture appears once, as it is when its range is read, with the throughput and the
    fitness of one device model: the one of the filters, or else the one that timed most jobs.
    Trials have their own throughputs and devices; with a device in the filters these are only the
    trials that it measured. The sweep is looked up in the call, rows during iteration.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device of the filters.
    """
    with open_session() as session:
        statement = _statement(session, sweep_id, filters, rows, fitness_weight)
        first_id, last_id = export_queries.find_id_range(session, sweep_id)
    export = _Export(open_session, statement, first_id, last_id, _MOST_JOBS[rows])
    return _WRITERS[form](export)


def _statement(
    session: Session, sweep_id: int, filters: Filters, rows: ExportRows, weight: float
) -> Select[Any]:
    depth = len(load_sweep(session, sweep_id).space["layers"])
    choice = choose_device(session, sweep_id, filters.device)
    scale = select_scale(session, sweep_id, choice, weight)
    if rows is ExportRows.TRIALS:
        only = filters.device is not None
        return export_queries.trial_rows(sweep_id, depth, filters.conditions, scale, only)
    quantiles = [t_quantile(trials) for trials in range(2, MAX_TRIALS + 1)]
    return export_queries.architecture_rows(sweep_id, depth, filters.conditions, scale, quantiles)


def _csv(export: _Export) -> Iterator[bytes]:
    yield (",".join(export.columns) + "\n").encode()
    safe = replace(export, statement=export_queries.without_formulas(export.statement))
    yield from safe.chunks(export_queries.copy_csv)


def _jsonl(export: _Export) -> Iterator[bytes]:
    yield from export.chunks(export_queries.copy_json)


def _parquet(export: _Export) -> Iterator[bytes]:
    schema = pa.schema([(name, _arrow_type(name, kind)) for name, kind in export.columns.items()])
    sink = _Sink()
    with pa.parquet.ParquetWriter(sink, schema) as writer:
        for table in _row_groups(export, schema):
            writer.write_table(table)
            del table  # so that its memory is free for the next table
            yield sink.take()
    yield sink.take()


def _row_groups(export: _Export, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yields tables of at least ``ROW_GROUP_ROWS`` rows, the last from the remaining rows."""
    waiting: list[pa.Table] = []
    for chunk in export.chunks(export_queries.copy_csv):
        waiting.append(_table(chunk, schema))
        if sum(table.num_rows for table in waiting) >= ROW_GROUP_ROWS:
            yield _take(waiting)
    if waiting:
        yield _take(waiting)


def _take(waiting: list[pa.Table]) -> pa.Table:
    """Returns all tables as one and empties the list, so that the rows are held once."""
    table = pa.concat_tables(waiting)
    waiting.clear()
    return table


def _table(chunk: bytes, schema: pa.Schema) -> pa.Table:
    return pa.csv.read_csv(
        io.BytesIO(chunk),
        pa.csv.ReadOptions(column_names=schema.names, use_threads=False),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(
            column_types=schema,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
        ),
    )


def _arrow_type(name: str, kind: type) -> pa.DataType:
    if name.endswith("_at"):
        return pa.timestamp("us", tz="UTC")
    return {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}[kind]


class _Sink(io.RawIOBase):
    """A file to write; ``take`` returns and removes its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._length += len(part)
        return len(part)

    def take(self) -> bytes:
        """Returns the bytes written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


_WRITERS: dict[ExportFormat, Callable[[_Export], Iterator[bytes]]] = {
    ExportFormat.CSV: _csv,
    ExportFormat.JSONL: _jsonl,
    ExportFormat.PARQUET: _parquet,
}
