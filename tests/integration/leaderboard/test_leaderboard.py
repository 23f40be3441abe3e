"""The leaderboard: filters, orders and pages against plain Python over the same rows."""

from collections.abc import Iterator
from typing import Any

import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leaderboard.filters import Filters, parse_filters
from services.leaderboard.leaders import LeaderPage, list_jobs, rank_jobs
from services.sweeps.reading import list_sweeps
from shared.domain.errors import InvalidFilterError, InvalidInputError, InvalidPageTokenError
from shared.domain.page_tokens import PlaceInListing, make_page_token
from shared.domain.results.columns import SORTABLE
from shared.domain.results.ranking import Range
from tests.conftest import SessionFactory
from tests.integration.listings import DEVICES, STATUSES, Reference, add_results, as_text
from tests.integration.scenario import add_sweep, claimed, complete, success, trial


def fractions() -> st.SearchStrategy[float]:
    return st.integers(0, 100).map(lambda percent: percent / 100)


def ranges(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    ordered = st.tuples(values, values).map(sorted)
    return st.one_of(
        ordered.map(lambda ends: Range(*ends)),
        values.map(lambda low: Range(low, None)),
        values.map(lambda high: Range(None, high)),
    )


def some(values: st.SearchStrategy[Any], *, ranged: bool = True) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of(ranges(values), values) if ranged else values, min_size=1, max_size=3)


FILTERS: dict[str, st.SearchStrategy[list[Any]]] = {
    "accuracy": some(fractions()),
    "train_accuracy": some(fractions()),
    "throughput": some(st.integers(0, 60).map(lambda n: n * 37.7)),
    "ratio": some(st.floats(0, 2)),
    "parameters": some(st.integers(0, 500)),
    "flops": some(st.integers(0, 10**6)),
    "fit_seconds": some(st.integers(1, 9).map(lambda ms: ms / 1000)),
    "trials_done": some(st.integers(0, 3)),
    "fitness": some(st.floats(-0.5, 1.5)),
    "status": some(st.sampled_from(STATUSES), ranged=False),
    "reason": some(st.sampled_from(["accuracy_below_minimum", "non_finite"]), ranged=False),
    "kernel_size[0]": some(st.sampled_from([3, 5, 7])),
    "kernel_size[1]": some(st.sampled_from([3, 5, 7])),
    "stride[1]": some(st.sampled_from([1, 2, 3]), ranged=False),
    "channels[0]": some(st.integers(1, 3)),
    "dilation[1]": some(st.integers(1, 2)),
    "padding[1]": some(st.integers(0, 1)),
    "activation[0]": some(st.sampled_from(["relu", "tanh"]), ranged=False),
    "stride[2]": some(st.integers(1, 2)),  # of a layer that is not there
}
SORTS = st.lists(
    st.tuples(st.sampled_from(["", "-"]), st.sampled_from(list(SORTABLE))),
    min_size=1, max_size=3, unique_by=lambda key: key[1],
)  # fmt: skip


def walk(
    session: Session, sweep_id: int, page_size: int = 50, **asked: Any
) -> Iterator[LeaderPage]:
    """Yields every page of a leaderboard."""
    token = None
    while True:
        page = rank_jobs(session, sweep_id, page_size=page_size, page_token=token, **asked)
        yield page
        token = page.next_page_token
        if token is None:
            return


def ids(pages: Iterator[LeaderPage]) -> list[int]:
    return [row.id for page in pages for row in page.rows]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    filters=st.fixed_dictionaries({}, optional=FILTERS),
    sort=SORTS,
    device=st.sampled_from([None, *DEVICES]),
    weight=st.sampled_from([0.0, 0.3, 2.0]),
    page_size=st.integers(1, 200),
)
def test_any_filter_order_and_page_size_gives_what_python_gives(
    database: Any,
    filters: dict[str, list[Any]],
    sort: list[tuple[str, str]],
    device: str | None,
    weight: float,
    page_size: int,
) -> None:
    with Session(database) as session:
        sweep_id, reference = _shared_results(session)
        keys = [sign + field for sign, field in sort]
        pairs = [(name, as_text(values)) for name, values in filters.items()]
        pairs += [("device", device)] if device else []
        found = ids(
            walk(
                session,
                sweep_id,
                page_size,
                filters=parse_filters(pairs),
                sort=",".join(keys),
                fitness_weight=weight,
            )
        )
    assert found == reference.ranked(filters, keys, device, weight)


_SHARED: dict[str, tuple[int, Reference]] = {}


def _shared_results(session: Session) -> tuple[int, Reference]:
    """Returns a sweep that all examples read, made by the first of them."""
    there = session.execute(text("SELECT id FROM sweeps WHERE name = 'shared'")).scalar()
    if there is None or there != _SHARED.get("it", (None,))[0]:
        sweep_id = add_results(session)
        session.execute(text("UPDATE sweeps SET name = 'shared' WHERE id = :id"), {"id": sweep_id})
        session.commit()
        _SHARED["it"] = (sweep_id, Reference.of(session, sweep_id))
    return _SHARED["it"]


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_takes_some_rows_and_leaves_others(name: str, session: Session) -> None:
    sweep_id = add_results(session)
    everything = len(ids(walk(session, sweep_id)))
    texts = {
        "status": "failed", "reason": "non_finite", "activation[0]": "tanh", "ratio": "..0.6",
        "parameters": "..90", "flops": "..100000", "throughput": "1000..", "fit_seconds": "0.004..",
        "trials_done": "1..2", "stride[1]": "1|2", "channels[0]": "2", "padding[1]": "1",
    }  # fmt: skip
    wanted = [(name, texts.get(name, "0.2..0.7" if "[" not in name else "3"))]
    if name in ("reason", "trials_done"):
        wanted.append(("status", "failed|rejected|completed"))
    found = ids(walk(session, sweep_id, filters=parse_filters(wanted)))
    if name in ("dilation[1]", "stride[2]"):
        assert found == []
    else:
        assert 0 < len(found) < everything


def _complete(session: Session, sweep_id: int, group: int, scale: float = 1.0) -> None:
    held = claimed(session, sweep_id, group)
    outcomes = []
    for place, job in enumerate(held.jobs):
        accuracy = (37 * group + 11 * place) % 20 / 25
        images_per_s = scale * (50 + (53 * group + 17 * place) % 30)
        outcomes.append(success([trial(n, accuracy, images_per_s) for n in job.trials]))
    complete(session, held, outcomes)


def test_results_that_arrive_between_pages_hide_and_repeat_nothing(session: Session) -> None:
    sweep_id = add_sweep(session, groups=40)
    for group in range(10):
        _complete(session, sweep_id, group)
    arriving = 10
    for sort in ("-accuracy", "accuracy", "throughput,-accuracy", "-fitness"):
        before = ids(walk(session, sweep_id, 1000, sort=sort))
        seen = []
        for page in walk(session, sweep_id, 9, sort=sort):
            seen += [row.id for row in page.rows]
            if arriving < 40:
                _complete(session, sweep_id, arriving, scale=1 + arriving / 10)
                arriving += 1
        assert len(seen) == len(set(seen))
        assert [job_id for job_id in seen if job_id in set(before)] == before


def test_ranks_go_on_from_page_to_page(session: Session) -> None:
    sweep_id = add_results(session)
    pages = list(walk(session, sweep_id, 20))
    assert [page.first_rank for page in pages] == [1 + 20 * n for n in range(len(pages))]
    assert len(pages) > 2


def test_another_device_in_the_lead_does_not_change_a_listing_under_way(session: Session) -> None:
    sweep_id = add_results(session)
    timed = parse_filters([("throughput", "0..")])
    first = rank_jobs(session, sweep_id, timed, page_size=10)
    assert first.choice.device == "H100"
    session.execute(
        text("INSERT INTO timings (job_id, environment_id, images_per_s, source, attempt) "
             "SELECT j.id, e.id, 50, 'measured', 1 FROM jobs j, environments e "
             "WHERE j.sweep_id = :id AND e.device = 'A100'"), {"id": sweep_id},
    )  # fmt: skip
    session.commit()
    assert rank_jobs(session, sweep_id).choice.device == "A100"
    second = rank_jobs(session, sweep_id, timed, page_size=10, page_token=first.next_page_token)
    assert second.choice.device == "H100"
    assert {row.throughput_device for row in second.rows} == {"H100"}


def test_jobs_of_a_sweep_without_any_result_are_listed_by_status(session: Session) -> None:
    sweep_id = add_sweep(session)
    page = rank_jobs(session, sweep_id, parse_filters([("status", "pending")]), sort="-flops")
    assert len(page.rows) == 12
    assert page.choice.device is None
    assert rank_jobs(session, sweep_id).rows == []
    assert rank_jobs(session, sweep_id, sort="-fitness").rows == []


def test_fitness_is_the_published_formula(session: Session) -> None:
    sweep_id = add_sweep(session)
    held = claimed(session, sweep_id)
    figures = [(0.2, 100.0), (0.4, 100.0), (0.3, 300.0), (0.35, 150.0)]
    outcomes = [success([trial(n, a, t) for n in (0, 1)]) for a, t in figures]
    complete(session, held, outcomes)
    rows = rank_jobs(session, sweep_id, sort="-fitness").rows
    found = {row.id: row.fitness for row in rows}
    expected = [0.0, 1.0, 0.5 + 0.3 * 1.0, 0.75 + 0.3 * 0.25]
    assert [found[job.id] for job in held.jobs] == pytest.approx(expected, abs=1e-12)
    heavy = rank_jobs(session, sweep_id, sort="-fitness", fitness_weight=1.0).rows
    assert heavy[0].id == held.jobs[2].id
    assert heavy[0].fitness == pytest.approx(1.5)


def test_networks_that_are_all_alike_have_fitness_zero(session: Session) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id))
    rows = rank_jobs(session, sweep_id, sort="-fitness").rows
    assert [row.fitness for row in rows] == [0.0] * 4


@pytest.mark.parametrize("trials", [2, 3, 10])
def test_interval_is_students_over_the_trials(trials: int, session: Session) -> None:
    from api.schemas.leaderboard import NetworkOut

    sweep_id = add_sweep(session, trials=trials)
    held = claimed(session, sweep_id)
    values = [0.3 + 0.02 * n * (-1) ** n for n in range(trials)]
    complete(session, held, [success([trial(n, values[n]) for n in j.trials]) for j in held.jobs])
    row = NetworkOut.of_row(rank_jobs(session, sweep_id).rows[0])
    error = scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(0.95, trials - 1, sum(values) / trials, error)
    assert (row.accuracy_se, row.accuracy_low, row.accuracy_high) == pytest.approx(
        (error, low, high)
    )
    assert (row.accuracy_min, row.accuracy_max) == (min(values), max(values))


def test_one_trial_has_no_interval(session: Session) -> None:
    from api.schemas.leaderboard import NetworkOut

    sweep_id = add_sweep(session, trials=1)
    complete(session, claimed(session, sweep_id))
    row = NetworkOut.of_row(rank_jobs(session, sweep_id).rows[0])
    assert (row.accuracy_se, row.accuracy_low, row.accuracy_high) == (None, None, None)


def test_a_token_is_refused_where_it_does_not_belong(session: Session) -> None:
    sweep_id, other = add_results(session), add_results(session, seed=1)
    filters = parse_filters([("accuracy", "0.1..")])
    token = rank_jobs(session, sweep_id, filters, page_size=5).next_page_token
    assert rank_jobs(session, sweep_id, filters, page_size=7, page_token=token).first_rank == 6
    elsewhere: list[dict[str, Any]] = [
        {"sweep_id": other, "filters": filters},
        {"sweep_id": sweep_id},
        {"sweep_id": sweep_id, "filters": filters, "sort": "accuracy"},
        {"sweep_id": sweep_id, "filters": filters, "fitness_weight": 0.4},
    ]
    for asked in elsewhere:
        with pytest.raises(InvalidPageTokenError, match="belongs to another listing"):
            rank_jobs(session, **asked, page_token=token)
    with pytest.raises(InvalidPageTokenError, match="belongs to another listing"):
        list_jobs(session, sweep_id, page_token=token)
    with pytest.raises(InvalidPageTokenError, match="belongs to another listing"):
        list_sweeps(session, page_token=token)


def test_a_token_with_any_character_changed_is_refused(session: Session) -> None:
    sweep_id = add_results(session)
    token = rank_jobs(session, sweep_id, page_size=5).next_page_token
    assert token is not None
    for place in range(len(token) - 1):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(InvalidPageTokenError):
            rank_jobs(session, sweep_id, page_token=changed)
    for nonsense in ("", "a", "ü", "=", token + "A", token[:-4], "%00", "A" * 4000):
        with pytest.raises(InvalidPageTokenError):
            rank_jobs(session, sweep_id, page_token=nonsense)


def test_a_forged_token_is_refused_or_only_moves_the_place(
    session: Session,
) -> None:
    class Forged(PlaceInListing):
        id: Any = 1
        values: Any = (0.2,)
        shown: Any = 3
        device: Any = "H100"
        scale: Any = (0.1, 0.2, 1.0, 2.0)

    sweep_id = add_results(session)
    filters = Filters()
    identity = ["leaderboard", sweep_id, repr(filters), _sort_of("-accuracy"), 0.3]
    fine = rank_jobs(session, sweep_id, page_token=make_page_token(identity, Forged()))
    assert fine.first_rank == 4
    for odd in (
        Forged(id="1; DROP TABLE jobs"), Forged(id=2**70), Forged(values=["x"]),
        Forged(values=[0.1, 0.2]), Forged(values=[]), Forged(shown=-1), Forged(scale=[1]),
        Forged(device=["H100"]), Forged(device="unknown"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            rank_jobs(session, sweep_id, page_token=make_page_token(identity, odd))


def _sort_of(text_: str) -> str:
    from services.leaderboard.filters import parse_sort

    return repr(parse_sort(text_))


def test_values_reach_the_database_as_values(sessions: SessionFactory) -> None:
    with sessions() as session:
        sweep_id = add_results(session)
        for value in ("relu' OR '1'='1", "%s", "%(x)s", "relu\\'; --", ":name"):
            filters = parse_filters([("activation[0]", value)])
            assert rank_jobs(session, sweep_id, filters).rows == []
        with pytest.raises(InvalidFilterError):
            parse_filters([("accuracy", "0.3) OR (1=1")])
        with pytest.raises(InvalidInputError, match="device"):
            rank_jobs(session, sweep_id, parse_filters([("device", "x' OR 'a'='a")]))
