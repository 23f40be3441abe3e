"""SQL about ranked jobs: pages in any order, and the scale of their fitness."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    and_,
    any_,
    bindparam,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job
from shared.db.queries.leaderboard.conditions import (
    Form,
    column_sql,
    conditions_sql,
    fitness_sql,
    is_ranked_only,
    name_values,
    normalized_sql,
    not_slow_sql,
    parameter,
    ranked_sql,
    scale_values,
    with_throughput,
)
from shared.db.queries.rows import LayerColumns
from shared.db.queries.statements import Prepared
from shared.db.timing_models import JobThroughput
from shared.domain.architecture import LayerConfig
from shared.domain.results.columns import COLUMN, COLUMNS, Column
from shared.domain.results.ranking import RANKED, Condition, FitnessScale, Place, SortKey

SAMPLE = 256  # jobs beyond a page that bound the fitness of its last one from below


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderRow(LayerColumns):
    """A ranked job: the columns of the registry by their names in the database, and its layers."""

    id: int
    sweep_id: int
    architecture_hash: bytes
    status: str
    reason: str | None
    attempt: int
    ratio: float | None
    parameters: int | None
    flops: int | None
    trials_done: int
    trials_target: int
    accuracy: float | None
    accuracy_sd: float | None
    accuracy_min: float | None
    accuracy_max: float | None
    train_accuracy: float | None
    throughput: float | None
    throughput_min: float | None
    throughput_max: float | None
    throughput_measured: bool | None
    throughput_kind: str | None
    throughput_device: str | None
    fit_s: float | None
    device: str | None
    finished_at: dt.datetime | None
    error: str | None
    fitness: float | None
    sort_values: tuple[float | int | None, ...]  # of the listing's sort keys


def _row_name(column: Column) -> str:
    """Returns the name of a column in a row: its name in the database, if that is unique."""
    return column.name if column.stored_name in ("device", "kind") else column.stored_name


_SHOWN: dict[str, Any] = {
    **{field: getattr(Job, field) for field in LayerConfig._fields},
    **{_row_name(column): column_sql(column.name) for column in COLUMNS if column.database},
    "fitness": fitness_sql(),
}
_NAMES = [field.name for field in fields(LeaderRow) if field.name != "sort_values"]
_SELECTED = [_SHOWN[name].label(name) for name in _NAMES]


@dataclass(frozen=True, slots=True)
class Listing:
    """The jobs of a sweep that a listing shows, and their order."""

    sweep_id: int
    conditions: tuple[Condition, ...]
    sort: tuple[SortKey, ...]
    scale: FitnessScale  # its device is that of the throughputs


@dataclass(frozen=True, slots=True)
class _Form:
    """What the statement of a page depends on: everything about the listing except values."""

    conditions: tuple[Form, ...]
    ranked_only: bool
    timed_only: bool
    sort: tuple[SortKey, ...]
    after: tuple[bool, ...] | None  # whether each value of the place is known
    valued: bool = True  # the jobs with a value of the first sort key, or those without
    bounded: bool = False  # by a lower bound of the fitness of the page's last job


def select_fitness_scale(
    session: Session,
    sweep_id: int,
    device: str | None,
    min_throughput: float | None,
    weight: float,
) -> FitnessScale:
    """Returns the least and greatest figures of the sweep's ranked jobs.

    Throughputs are only those of the device model, and jobs that are slower on it than
    ``min_throughput`` do not count. Each figure takes one index lookup.
    """
    values = {"sweep_id": sweep_id, "device": device, "min_throughput": min_throughput}
    found = _extremes(gated=min_throughput is not None).rows(session, values)
    extremes: tuple[float | None, ...] = tuple(found[0])
    return FitnessScale(device, min_throughput, weight, *extremes)


@cache
def _extremes(*, gated: bool) -> Prepared:
    fast = [not_slow_sql(parameter("min_throughput"))] if gated else []
    accuracies = (
        select(Job.accuracy)
        .select_from(with_throughput())
        .where(Job.sweep_id == bindparam("sweep_id"), ranked_sql(), Job.accuracy.is_not(None))
        .where(*fast)
    )
    throughputs = (
        select(JobThroughput.throughput)
        .select_from(with_throughput(timed_only=True))
        .where(JobThroughput.sweep_id == bindparam("sweep_id"), ranked_sql(), *fast)
    )
    extremes: list[Any] = [
        figures.order_by(_order(column, down)).limit(1).scalar_subquery()
        for figures, column in ((accuracies, Job.accuracy), (throughputs, JobThroughput.throughput))
        for down in (False, True)
    ]
    return Prepared.of(select(*extremes))


def _order(column: Any, descending: bool) -> ColumnElement[Any]:
    """Returns an order that the indexes have; another statement reads rows without a value."""
    ordered: ColumnElement[Any]
    ordered = column.desc().nulls_last() if descending else column.asc().nulls_first()
    return ordered


def select_networks(
    session: Session, job_ids: Sequence[int], scale: FitnessScale
) -> dict[int, LeaderRow]:
    """Returns jobs by their ids, with their throughput and fitness on the scale."""
    values = scale_values(scale) | {"job_ids": list(job_ids)}
    networks = map(_leader_row, _networks().rows(session, values))
    return {network.id: network for network in networks}


@cache
def _networks() -> Prepared:
    by_id = Job.id == any_(bindparam("job_ids", type_=ARRAY(BigInteger)))
    return Prepared.of(_shown().where(by_id))


def _shown(*more: ColumnElement[Any]) -> Select[Any]:
    """Returns what a row shows of jobs, and ``more``."""
    return (
        select(*_SELECTED, *more)
        .select_from(with_throughput())
        .outerjoin(Environment, Environment.id == Job.environment_id)
    )


def select_leaders(
    session: Session, listing: Listing, *, after: Place | None, limit: int
) -> list[LeaderRow]:
    """Returns up to ``limit`` jobs in the listing's order from just after a place, ties by id.

    Rows without a value of the first sort key come last.
    """
    rows: list[LeaderRow] = []
    if after is None or after.values[0] is not None:
        rows = _select_page(session, listing, after, limit, valued=True)
        after = None
    if len(rows) < limit:
        rows += _select_page(session, listing, after, limit - len(rows), valued=False)
    return rows


def _select_page(
    session: Session, listing: Listing, after: Place | None, limit: int, *, valued: bool
) -> list[LeaderRow]:
    ranked_only = is_ranked_only(listing.conditions)
    # completed jobs are ranked; the partial indexes serve only where that is said
    implied = {RANKED} - set(listing.conditions) if ranked_only else set()
    conditions, values = name_values((*listing.conditions, *implied))
    form = _Form(
        conditions,
        ranked_only,
        _is_timed_only(listing, valued),
        listing.sort,
        None if after is None else tuple(value is not None for value in after.values),
        valued,
        bounded=valued and ranked_only and _is_by_fitness(listing),
    )
    values |= scale_values(listing.scale)
    values |= {"sweep_id": listing.sweep_id, "limit": limit, "sample": limit + SAMPLE}
    if after is not None:
        values |= {"after_id": after.id}
        values |= {f"after_{n}": value for n, value in enumerate(after.values)}
    return [_leader_row(row) for row in _page(form).rows(session, values)]


def _is_timed_only(listing: Listing, valued: bool) -> bool:
    """Says whether only jobs with a throughput can be on a page."""
    needed = {condition.field for condition in listing.conditions}
    if valued:
        needed.add(listing.sort[0].field)
    return any(name in COLUMN and COLUMN[name].per_device for name in needed)


def _leader_row(row: Sequence[Any]) -> LeaderRow:
    width = len(_NAMES)
    values = dict(zip(_NAMES, row[:width], strict=True))
    return LeaderRow(**values, sort_values=tuple(row[width:]))


def _is_by_fitness(listing: Listing) -> bool:
    """Says whether the fittest come first and accuracies differ, so that few jobs qualify."""
    first, scale = listing.sort[0], listing.scale
    least, greatest = scale.least_accuracy, scale.greatest_accuracy
    differ = least is not None and greatest is not None and greatest > least
    return first.field == "fitness" and first.descending and differ


@lru_cache(maxsize=1024)
def _page(form: _Form) -> Prepared:
    """Returns the statement of a page: it ranks narrow columns, which an index may have.

    The other columns are then read by id.
    """
    keys = [
        column_sql(key.field, ranked_only=form.ranked_only).label(f"key_{n}")
        for n, key in enumerate(form.sort)
    ]
    jobs = with_throughput(timed_only=form.timed_only)
    listed = _listed(form, [key.element for key in keys])
    ranked = select(Job.id, *keys).select_from(jobs).where(*listed)
    if form.bounded:
        ranked = _among_the_fittest(ranked)
    columns = list(ranked.selected_columns)[1:]
    ranked = ranked.order_by(None).order_by(*_orders(form, columns), ranked.selected_columns[0])
    page = ranked.limit(bindparam("limit")).subquery("page")
    names = [page.c[key.name] for key in keys]
    return Prepared.of(
        _shown(*names).join(page, page.c.id == Job.id).order_by(*_orders(form, names), page.c.id)
    )


def _listed(form: _Form, keys: Sequence[ColumnElement[Any]]) -> list[ColumnElement[bool]]:
    return [
        Job.sweep_id == bindparam("sweep_id"),
        *((JobThroughput.sweep_id == bindparam("sweep_id"),) if form.timed_only else ()),
        *conditions_sql(form.conditions, ranked_only=form.ranked_only),
        keys[0].is_not(None) if form.valued else keys[0].is_(None),
        *(_beyond(form, keys) if form.after is not None else ()),
    ]


def _among_the_fittest(jobs: Select[Any]) -> Select[Any]:
    """Returns the jobs that can be among the ``limit`` fittest.

    A sample of the most accurate and of the fastest jobs gives a fitness F that at least ``limit``
    jobs reach. A job outside the fastest of the sample is at most as fast as the slowest of them,
    so it needs a minimum accuracy to reach F; less accurate jobs are left out.

    Source: the threshold algorithm of Fagin, Lotem and Naor (2001), in one statement.
    """
    narrow = jobs.add_columns(
        fitness_sql(ranked_only=True).label("fitness"),
        normalized_sql("throughput").label("speed"),
    )
    fastest, accurate = (
        narrow.order_by(_order(column, True)).limit(bindparam("sample")).cte(name)
        for name, column in (("fastest", JobThroughput.throughput), ("accurate", Job.accuracy))
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
    enough = at_least - slowest - 1e-9  # against rounding
    bound = case(
        (func.count() < bindparam("sample"), float("inf")),  # the sample holds every job
        else_=parameter("least_accuracy") + enough * parameter("accuracy_span"),
    )
    least = select(bound).select_from(fastest).scalar_subquery()
    others = jobs.where(Job.accuracy.between(least, 1))  # the upper end: an index scan
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
    """Returns the condition that a row comes after a place.

    A separate bound on the first key limits what an index scan reads.
    """
    assert form.after is not None
    bounds: list[ColumnElement[bool]] = []
    places = [bindparam(f"after_{n}", type_=column.type) for n, column in enumerate(columns)]
    if form.after[0]:
        descending = form.sort[0].descending
        bounds.append(columns[0] <= places[0] if descending else columns[0] >= places[0])
    condition: ColumnElement[bool] = Job.id > bindparam("after_id")
    for key, column, place, known in reversed(
        list(zip(form.sort, columns, places, form.after, strict=True))
    ):
        if not known:
            condition = and_(column.is_(None), condition)
            continue
        later = column < place if key.descending else column > place
        condition = or_(later, column.is_(None), and_(column == place, condition))
    return [*bounds, condition]
