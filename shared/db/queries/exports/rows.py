"""SQL of exports: rows per architecture or per trial, by ranges of job ids."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Float,
    Select,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job, Trial
from shared.db.queries.leaderboard.conditions import (
    conditions_sql,
    fitness_sql,
    name_values,
    scale_values,
    with_throughput,
)
from shared.db.queries.result_columns import timing_of_trial, written_columns
from shared.db.queries.statements import CSV, VERBATIM, copy_out
from shared.db.timing_models import Timing
from shared.domain.results.columns import (
    COLUMN,
    EXPORTABLE,
    FORMULA_STARTS,
    TEXT_COLUMNS,
    TRIAL_COLUMNS,
)
from shared.domain.results.ranking import Condition, FitnessScale
from shared.domain.status import JobStatus


def find_id_range(session: Session, sweep_id: int) -> tuple[int, int]:
    """Returns the first and the last id of a sweep's jobs, by index lookups."""
    statement = text("""
        SELECT min(ends.first), max(ends.last)
        FROM unnest(CAST(:statuses AS text[])) AS s(status), LATERAL (
            SELECT min(id) AS first, max(id) AS last FROM jobs
            WHERE sweep_id = :sweep_id AND status = s.status
        ) ends
    """)
    statuses = [status.value for status in JobStatus]
    row = session.execute(statement, {"sweep_id": sweep_id, "statuses": statuses}).one()
    return row[0], row[1]


def architecture_rows(
    sweep_id: int,
    depth: int,
    conditions: Sequence[Condition],
    scale: FitnessScale,
    t_quantiles: Sequence[float],
) -> Select[Any]:
    """Returns a statement with a row per job that meets the conditions.

    Args:
        depth: number of layers with columns.
        t_quantiles: of Student's t for 2, 3, ... trials.
    """
    computed = {"fitness": fitness_sql(), **_interval_columns(t_quantiles)}
    columns = written_columns(EXPORTABLE.values(), computed, depth)
    statement = select(*columns).select_from(with_throughput())
    statement = statement.outerjoin(Environment, Environment.id == Job.environment_id)
    return _meeting(statement, sweep_id, conditions, scale, ()).order_by(Job.id)


def _meeting(
    statement: Select[Any],
    sweep_id: int,
    conditions: Sequence[Condition],
    scale: FitnessScale,
    only: Iterable[ColumnElement[bool]],
) -> Select[Any]:
    """Returns a statement about the jobs of a sweep that meet the conditions, with its values."""
    forms, values = name_values(conditions)
    met = statement.where(Job.sweep_id == sweep_id, *conditions_sql(forms), *only)
    return met.params(values | scale_values(scale))


def _interval_columns(t_quantiles: Sequence[float]) -> dict[str, ColumnElement[Any]]:
    """Returns the standard error of the accuracy and the ends of its 95 % interval."""
    error = Job.accuracy_sd / func.sqrt(func.nullif(Job.trials_done, 0), type_=Float)
    quantiles = select(cast(literal(list(t_quantiles), ARRAY(Float)), ARRAY(Float)))
    reach = quantiles.scalar_subquery()[Job.trials_done - 1]
    return {
        "accuracy_se": error,
        "accuracy_low": Job.accuracy - reach * error,
        "accuracy_high": Job.accuracy + reach * error,
    }


def trial_rows(
    sweep_id: int,
    depth: int,
    conditions: Sequence[Condition],
    scale: FitnessScale,
    chosen_only: bool,
) -> Select[Any]:
    """Returns a statement with a row per trial of the jobs that meet the conditions.

    Args:
        depth: number of layers with columns.
        chosen_only: whether to leave out trials that other device models than the scale's measured.
    """
    columns = [
        Job.id.label("job_id"),
        *written_columns([COLUMN["architecture_hash"], COLUMN["status"]], {}, depth),
        *written_columns(TRIAL_COLUMNS, {}, depth),
    ]
    statement = (
        select(*columns)
        .select_from(with_throughput())
        .join(Trial, Trial.job_id == Job.id)
        .join(Environment, Environment.id == Trial.environment_id)
        .outerjoin(Timing, timing_of_trial())
    )
    only = [Environment.device == bindparam("device")] if chosen_only else []
    rows = _meeting(statement, sweep_id, conditions, scale, only)
    return rows.order_by(Trial.job_id, Trial.trial)


def without_formulas(rows: Select[Any]) -> Select[Any]:
    """Returns the statement with a ``'`` before texts that a spreadsheet would run as formulas."""
    columns = [
        _without_formula(column) if column.key in TEXT_COLUMNS else column
        for column in rows.selected_columns
    ]
    return rows.with_only_columns(*columns, maintain_column_froms=True)


def _without_formula(column: ColumnElement[Any]) -> ColumnElement[Any]:
    starts = column.regexp_match(f"^[{FORMULA_STARTS}]")
    return case((starts, literal("'") + column), else_=column).label(column.key)


def copy_csv(session: Session, rows: Select[Any], first_id: int, end_id: int) -> bytes:
    """Returns the rows of jobs from ``first_id`` to before ``end_id`` as lines of CSV.

    A null is empty, an empty text is two quotes.
    """
    return copy_out(session, _in_range(rows, first_id, end_id), CSV)


def copy_json(session: Session, rows: Select[Any], first_id: int, end_id: int) -> bytes:
    """Returns the rows of jobs from ``first_id`` to before ``end_id`` as one JSON object a line."""
    row = _in_range(rows, first_id, end_id).subquery("a_row").table_valued()
    return copy_out(session, select(func.row_to_json(row)), VERBATIM)


def _in_range(rows: Select[Any], first_id: int, end_id: int) -> Select[Any]:
    return rows.where(Job.id >= first_id, Job.id < end_id)
