"""SQL about ranked jobs: pages of them in any order, and what their fitness is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job
from shared.db.queries.conditions import (
    column_sql,
    conditions_sql,
    fitness_sql,
    is_completed_only,
    measured_on,
)
from shared.ranking import Condition, FitnessScale, Place, SortKey
from shared.status import JobStatus

LEADER_COLUMNS = (
    Job.id, Job.sweep_id, Job.architecture_hash, Job.channels, Job.kernel_size, Job.stride,
    Job.dilation, Job.padding, Job.activation, Job.ratio, Job.parameters, Job.flops, Job.status,
    Job.reason, Job.error, Job.attempt, Job.trials_done, Job.trials_target, Job.accuracy,
    Job.accuracy_sd, Job.accuracy_min, Job.accuracy_max, Job.train_accuracy, Job.throughput,
    Job.throughput_min, Job.throughput_max, Job.throughput_measured, Job.fit_s, Job.finished_at,
    Environment.device,
)  # fmt: skip
_FLOOR_STEP = 0.05  # of the span of accuracies


@dataclass(frozen=True, slots=True)
class Listing:
    """Which jobs of a sweep, in which order."""

    sweep_id: int
    environment_ids: tuple[int, ...]
    conditions: tuple[Condition, ...]
    sort: tuple[SortKey, ...]
    scale: FitnessScale


def select_fitness_scale(
    session: Session, sweep_id: int, environment_ids: Sequence[int], weight: float
) -> FitnessScale:
    """Returns the least and greatest figures of the sweep's completed jobs in these environments.

    Each of the four is one look into an index.
    """
    values = {"sweep_id": sweep_id, "environment_ids": list(environment_ids)}
    found: tuple[float | None, ...] = tuple(session.execute(_extremes(), values).one())
    return FitnessScale(tuple(environment_ids), weight, *found)


@cache
def _extremes() -> Select[Any]:
    """Returns the statement of a scale; made once, for making it costs more than running it."""
    columns = (Job.accuracy, Job.throughput)
    extremes: list[Any] = [_extreme(c, down) for c in columns for down in (False, True)]
    return select(*extremes)


def _extreme(column: Any, descending: bool) -> ColumnElement[float | None]:
    completed = and_(
        Job.sweep_id == bindparam("sweep_id"),
        Job.status == JobStatus.COMPLETED.value,
        Job.environment_id.in_(bindparam("environment_ids", expanding=True)),
        column.is_not(None),
    )
    order = _order(column, descending)
    return select(column).where(completed).order_by(order).limit(1).scalar_subquery()


def _order(column: Any, descending: bool) -> ColumnElement[Any]:
    """Returns an order that the indexes have; values that are null are looked for apart."""
    ordered: ColumnElement[Any]
    ordered = column.desc().nulls_last() if descending else column.asc().nulls_first()
    return ordered


def select_leaders(
    session: Session, listing: Listing, *, after: Place | None, limit: int
) -> list[Row[Any]]:
    """Returns up to ``limit`` jobs in the listing's order from just after a place, ties by id.

    Rows have ``LEADER_COLUMNS``, ``fitness``, and ``key_0`` and so on, the values of the sort keys.
    Rows without a value of the first key come last.
    """
    rows: list[Row[Any]] = []
    if after is None or after.values[0] is not None:
        rows = _select_valued(session, listing, after, limit)
        after = None
    if len(rows) < limit:
        rows += session.execute(_page(listing, after, limit - len(rows), valued=False))
    return rows


def _select_valued(
    session: Session, listing: Listing, after: Place | None, limit: int
) -> list[Row[Any]]:
    first, scale = listing.sort[0], listing.scale
    measured = None not in (scale.greatest_accuracy, scale.greatest_throughput)
    prunable = measured and is_completed_only(listing.conditions)
    if prunable and first.field == "fitness" and first.descending:
        return _select_fittest(session, listing, after, limit)
    return list(session.execute(_page(listing, after, limit)))


def _select_fittest(
    session: Session, listing: Listing, after: Place | None, limit: int
) -> list[Row[Any]]:
    """Returns the fittest without looking at every job.

    Throughput adds at most ``reach`` to a normalized accuracy. So once ``limit`` jobs have a
    fitness of F or more, whoever has a normalized accuracy below F - ``reach`` is not among them.
    """
    accuracy, reach = _reach(session, listing)
    best = accuracy + reach if after is None else min(after.values[0] or 0.0, accuracy + reach)
    step, floor = _FLOOR_STEP, best - reach - _FLOOR_STEP
    while floor > 0:
        rows = list(session.execute(_page(listing, after, limit, floor=floor)))
        if len(rows) == limit:
            sure = rows[-1].fitness - reach
            if sure >= floor:
                return rows
            return list(session.execute(_page(listing, after, limit, floor=sure)))
        step *= 2
        floor -= step
    return list(session.execute(_page(listing, after, limit)))


def _reach(session: Session, listing: Listing) -> tuple[float, float]:
    """Returns the greatest normalized accuracy there is, and the most that throughput adds now."""
    scale, devices = listing.scale, listing.environment_ids
    now = select_fitness_scale(session, listing.sweep_id, devices, scale.weight)
    accuracy = _normalized(now.greatest_accuracy, scale.least_accuracy, scale.greatest_accuracy)
    most = _normalized(now.greatest_throughput, scale.least_throughput, scale.greatest_throughput)
    return accuracy, max(0.0, scale.weight * most)


def _normalized(value: float | None, least: float | None, greatest: float | None) -> float:
    if value is None or least is None or greatest is None or greatest <= least:
        return 0.0
    return (value - least) / (greatest - least)


def _page(
    listing: Listing,
    after: Place | None,
    limit: int,
    *,
    valued: bool = True,
    floor: float | None = None,
) -> Select[*tuple[Any, ...]]:
    """Returns a page, found by narrow columns that an index may have and filled by id."""
    keys = [column_sql(key.field, listing.scale).label(f"key_{n}")
            for n, key in enumerate(listing.sort)]  # fmt: skip
    wanted = [
        Job.sweep_id == listing.sweep_id,
        *conditions_sql(listing.conditions, listing.scale),
        measured_on(listing.environment_ids, listing.conditions),
        keys[0].element.is_not(None) if valued else keys[0].element.is_(None),
    ]
    if after is not None:
        wanted += _beyond(listing.sort, [key.element for key in keys], after)
    if floor is not None:
        wanted.append(Job.accuracy >= _accuracy_of(floor, listing.scale))
    found = select(Job.id, *keys).where(*wanted)
    found = found.order_by(*_orders(listing.sort, [key.element for key in keys], valued), Job.id)
    page = found.limit(limit).subquery("page")
    names = [page.c[key.name] for key in keys]
    return (
        select(*LEADER_COLUMNS, fitness_sql(listing.scale).label("fitness"), *names)
        .join(page, page.c.id == Job.id)
        .outerjoin(Environment, Environment.id == Job.environment_id)
        .order_by(*_orders(listing.sort, names, valued), page.c.id)
    )


def _accuracy_of(normalized: float, scale: FitnessScale) -> float:
    assert scale.least_accuracy is not None
    assert scale.greatest_accuracy is not None
    span = scale.greatest_accuracy - scale.least_accuracy
    return scale.least_accuracy + (normalized - 1e-9) * span  # rounding hides nobody


def _orders(
    sort: Sequence[SortKey], columns: Sequence[Any], valued: bool
) -> list[ColumnElement[Any]]:
    first = [_order(columns[0], sort[0].descending)] if valued else []
    rest = zip(sort[1:], columns[1:], strict=True)
    return first + [
        column.desc().nulls_last() if key.descending else column.asc().nulls_last()
        for key, column in rest
    ]


def _beyond(
    sort: Sequence[SortKey], columns: Sequence[Any], after: Place
) -> list[ColumnElement[bool]]:
    """Returns that a row comes after a place; the first key alone bounds what an index reads."""
    bounds: list[ColumnElement[bool]] = []
    value = after.values[0]
    if value is not None:
        bounds.append(columns[0] <= value if sort[0].descending else columns[0] >= value)
    condition: ColumnElement[bool] = Job.id > after.id
    for key, column, value in reversed(list(zip(sort, columns, after.values, strict=True))):
        if value is None:
            condition = and_(column.is_(None), condition)
            continue
        later = column < value if key.descending else column > value
        condition = or_(later, column.is_(None), and_(column == value, condition))
    return [*bounds, condition]
