"""SQL about ranked jobs: pages of them in any order, and what their fitness is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, case, func, or_, select
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job
from shared.db.queries.leaderboard.conditions import (
    Form,
    column_sql,
    conditions_sql,
    fitness_sql,
    is_completed_only,
    measured_on,
    name_values,
    normalized_sql,
    parameter,
    scale_values,
)
from shared.db.queries.statements import Prepared
from shared.domain.ranking import Condition, FitnessScale, Place, SortKey
from shared.domain.status import JobStatus

LEADER_COLUMNS = (
    Job.id, Job.sweep_id, Job.architecture_hash, Job.channels, Job.kernel_size, Job.stride,
    Job.dilation, Job.padding, Job.activation, Job.ratio, Job.parameters, Job.flops, Job.status,
    Job.reason, Job.error, Job.attempt, Job.trials_done, Job.trials_target, Job.accuracy,
    Job.accuracy_sd, Job.accuracy_min, Job.accuracy_max, Job.train_accuracy, Job.throughput,
    Job.throughput_min, Job.throughput_max, Job.throughput_measured, Job.fit_s, Job.finished_at,
    Environment.device,
)  # fmt: skip
SAMPLE = 256  # jobs beside a page that show how fit its last one is at least


@dataclass(frozen=True, slots=True)
class Listing:
    """Which jobs of a sweep, in which order."""

    sweep_id: int
    conditions: tuple[Condition, ...]
    sort: tuple[SortKey, ...]
    scale: FitnessScale  # also says where the jobs were measured


@dataclass(frozen=True, slots=True)
class _Form:
    """What the statement of a page depends on: everything about it but the values."""

    conditions: tuple[Form, ...]
    completed_only: bool
    sort: tuple[SortKey, ...]
    after: tuple[bool, ...] | None  # which values of the place are there
    valued: bool = True  # the jobs with a value of the first sort key, or those without
    bounded: bool = False  # by what the fitness of the page's last job is at least


def select_fitness_scale(
    session: Session, sweep_id: int, environment_ids: Sequence[int], weight: float
) -> FitnessScale:
    """Returns the least and greatest figures of the sweep's completed jobs in these environments.

    Each of the four is one look into an index.
    """
    values = {"sweep_id": sweep_id, "environment_ids": list(environment_ids)}
    found: tuple[float | None, ...] = tuple(_extremes().rows(session, values)[0])
    return FitnessScale(tuple(environment_ids), weight, *found)


@cache
def _extremes() -> Prepared:
    columns = (Job.accuracy, Job.throughput)
    extremes: list[Any] = [_extreme(c, down) for c in columns for down in (False, True)]
    return Prepared.of(select(*extremes))


def _extreme(column: Any, descending: bool) -> ColumnElement[float | None]:
    completed = and_(
        Job.sweep_id == bindparam("sweep_id"),
        Job.status == JobStatus.COMPLETED.value,
        measured_on(completed_only=True),
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
        rows = _select_page(session, listing, after, limit, valued=True)
        after = None
    if len(rows) < limit:
        rows += _select_page(session, listing, after, limit - len(rows), valued=False)
    return rows


def _select_page(
    session: Session, listing: Listing, after: Place | None, limit: int, *, valued: bool
) -> list[Row[Any]]:
    conditions, values = name_values(listing.conditions)
    completed_only = is_completed_only(listing.conditions)
    form = _Form(
        conditions,
        completed_only,
        listing.sort,
        None if after is None else tuple(value is not None for value in after.values),
        valued,
        bounded=valued and completed_only and _is_by_fitness(listing),
    )
    values |= scale_values(listing.scale)
    values |= {"sweep_id": listing.sweep_id, "limit": limit, "sample": limit + SAMPLE}
    if after is not None:
        values |= {"after_id": after.id}
        values |= {f"after_{n}": value for n, value in enumerate(after.values)}
    return _page(form).rows(session, values)


def _is_by_fitness(listing: Listing) -> bool:
    """Says whether the fittest are wanted and accuracies differ, so that few jobs can be them."""
    first, scale = listing.sort[0], listing.scale
    least, greatest = scale.least_accuracy, scale.greatest_accuracy
    differ = least is not None and greatest is not None and greatest > least
    return first.field == "fitness" and first.descending and differ


@lru_cache(maxsize=1024)
def _page(form: _Form) -> Prepared:
    """Returns a page, found by narrow columns that an index may have and filled by id."""
    ranked_only = form.completed_only
    keys = [
        column_sql(key.field, ranked_only=ranked_only).label(f"key_{n}")
        for n, key in enumerate(form.sort)
    ]
    found = select(Job.id, *keys).where(*_wanted(form, [key.element for key in keys]))
    if form.bounded:
        found = _among_the_fittest(found)
    columns = list(found.selected_columns)[1:]
    found = found.order_by(None).order_by(*_orders(form, columns), found.selected_columns[0])
    page = found.limit(bindparam("limit")).subquery("page")
    names = [page.c[key.name] for key in keys]
    return Prepared.of(
        select(*LEADER_COLUMNS, fitness_sql(ranked_only=ranked_only).label("fitness"), *names)
        .join(page, page.c.id == Job.id)
        .outerjoin(Environment, Environment.id == Job.environment_id)
        .order_by(*_orders(form, names), page.c.id)
    )


def _wanted(form: _Form, keys: Sequence[ColumnElement[Any]]) -> list[ColumnElement[bool]]:
    return [
        Job.sweep_id == bindparam("sweep_id"),
        *conditions_sql(form.conditions, ranked_only=form.completed_only),
        measured_on(completed_only=form.completed_only),
        keys[0].is_not(None) if form.valued else keys[0].is_(None),
        *(_beyond(form, keys) if form.after is not None else ()),
    ]


def _among_the_fittest(jobs: Select[Any]) -> Select[Any]:
    """Returns those of some jobs with a fitness that can be the fittest ``limit`` of them.

    A sample of the most accurate and of the fastest shows that so many have a fitness of F or more.
    Whoever is not among the fastest of the sample is at most as fast as the slowest of them, which
    leaves a least accuracy that makes up for it: everybody else is below F.

    Source: the threshold algorithm of Fagin, Lotem and Naor (2001), in one statement.
    """
    narrow = jobs.add_columns(
        fitness_sql(ranked_only=True).label("fitness"),
        normalized_sql("throughput").label("speed"),
    )
    fastest, accurate = (
        narrow.order_by(_order(column, True)).limit(bindparam("sample")).cte(name)
        for name, column in (("fastest", Job.throughput), ("accurate", Job.accuracy))
    )
    sample = select(fastest.c.id, fastest.c.fitness).union(
        select(accurate.c.id, accurate.c.fitness)
    )
    fit = sample.subquery("sample")
    at_least = (
        select(fit.c.fitness).order_by(fit.c.fitness.desc())
        .offset(bindparam("limit") - 1).limit(1).scalar_subquery()
    )  # fmt: skip
    slowest = parameter("fitness_weight") * func.min(fastest.c.speed)
    enough = at_least - slowest - 1e-9  # rounding hides nobody
    bound = case(
        (func.count() < bindparam("sample"), float("inf")),  # the fastest are all that there are
        else_=parameter("least_accuracy") + enough * parameter("accuracy_span"),
    )
    least = select(bound).select_from(fastest).scalar_subquery()
    others = jobs.where(Job.accuracy.between(least, 1))  # an upper end tells of few: an index scan
    keys = [column.name for column in jobs.selected_columns]
    both = select(*(fastest.c[name] for name in keys)).union(others).subquery("fittest")
    return select(*both.c)


def _orders(form: _Form, columns: Sequence[Any]) -> list[ColumnElement[Any]]:
    first = [_order(columns[0], form.sort[0].descending)] if form.valued else []
    rest = zip(form.sort[1:], columns[1:], strict=True)
    return first + [
        column.desc().nulls_last() if key.descending else column.asc().nulls_last()
        for key, column in rest
    ]


def _beyond(form: _Form, columns: Sequence[Any]) -> list[ColumnElement[bool]]:
    """Returns that a row comes after a place; the first key alone bounds what an index reads."""
    assert form.after is not None
    bounds: list[ColumnElement[bool]] = []
    places = [bindparam(f"after_{n}", type_=column.type) for n, column in enumerate(columns)]
    if form.after[0]:
        descending = form.sort[0].descending
        bounds.append(columns[0] <= places[0] if descending else columns[0] >= places[0])
    condition: ColumnElement[bool] = Job.id > bindparam("after_id")
    for key, column, place, there in reversed(
        list(zip(form.sort, columns, places, form.after, strict=True))
    ):
        if not there:
            condition = and_(column.is_(None), condition)
            continue
        later = column < place if key.descending else column > place
        condition = or_(later, column.is_(None), and_(column == place, condition))
    return [*bounds, condition]
