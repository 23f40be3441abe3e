"""The rate of a sweep: over recent work, without the time in which no worker worked."""

import datetime as dt

import pytest

from services.sweeps.rate import SAMPLE, Span, estimate_rate

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


def span(began_s: float, ended_s: float | None, jobs: int = 10, completed: bool = True) -> Span:
    """A lease; times are seconds before now."""
    ended = None if ended_s is None else NOW - dt.timedelta(seconds=ended_s)
    return Span(jobs, NOW - dt.timedelta(seconds=began_s), ended, completed and ended_s is not None)


def one_after_the_other(seconds: float, count: int, until_s: float = 0.0) -> list[Span]:
    return [span(until_s + (n + 1) * seconds, until_s + n * seconds) for n in range(count)]


def test_one_worker_has_the_rate_of_its_leases() -> None:
    assert estimate_rate(one_after_the_other(2.0, 20), NOW) == pytest.approx(5.0)


def test_workers_side_by_side_add_up() -> None:
    assert estimate_rate(one_after_the_other(2.0, 20) * 3, NOW) == pytest.approx(15.0)


def test_many_workers_in_step_do_not_look_faster_than_they_are() -> None:
    spans = [span(30.0, 0.5) for _ in range(100)] + [span(0.5, None) for _ in range(100)]
    assert estimate_rate(spans, NOW) == pytest.approx(100 * 10 / 29.5, rel=0.02)


def test_the_first_lease_that_ends_gives_a_rate() -> None:
    spans = [span(4.0, 0.0), span(4.0, None), span(0.0, None)]
    assert estimate_rate(spans, NOW) == pytest.approx(2 * 10 / 4)


def test_before_the_first_lease_has_ended_nothing_is_known() -> None:
    assert estimate_rate([], NOW) is None
    assert estimate_rate([span(5.0, None)], NOW) is None


def test_a_pause_counts_nowhere() -> None:
    before = one_after_the_other(2.0, 10, until_s=3600.0)
    after = [span(6.0, 4.0), span(4.0, 2.0), span(2.0, 0.0)]
    assert estimate_rate(before + after, NOW) == pytest.approx(5.0)
    ten_minutes = one_after_the_other(2.0, 10, until_s=30.0)
    assert estimate_rate(ten_minutes + after, NOW) == pytest.approx(5.0, rel=0.25)


def test_short_breaks_between_leases_belong_to_the_work() -> None:
    spans = [span(n + 0.5, n) for n in range(60)]  # half a second of work, half a second of waiting
    assert estimate_rate(spans, NOW) == pytest.approx(10.0, rel=0.05)


def test_there_is_no_rate_when_no_worker_worked_in_the_last_minute() -> None:
    assert estimate_rate(one_after_the_other(2.0, 20, until_s=59.0), NOW) is not None
    assert estimate_rate(one_after_the_other(2.0, 20, until_s=61.0), NOW) is None


def test_a_lease_that_hangs_is_no_movement() -> None:
    done = one_after_the_other(2.0, 20, until_s=70.0)
    assert estimate_rate([*done, span(69.0, None)], NOW) is None
    slow = one_after_the_other(120.0, 5, until_s=70.0)  # that long is usual here
    assert estimate_rate([*slow, span(69.0, None)], NOW) == pytest.approx(10 / 120)


def test_leases_without_results_are_time_without_jobs() -> None:
    spans = one_after_the_other(2.0, 10) + [
        span(20.0 + (n + 1) * 2.0, 20.0 + n * 2.0, completed=False) for n in range(10)
    ]
    assert estimate_rate(spans, NOW) == pytest.approx(2.5)


def test_a_full_sample_speaks_for_its_own_time_only() -> None:
    spans = [span((n + 1) * 0.01, n * 0.01) for n in range(SAMPLE)]  # the last 1.28 s
    assert estimate_rate(spans, NOW) == pytest.approx(1000.0, rel=0.05)
