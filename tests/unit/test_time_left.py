"""The time left of a sweep: a range that keeps its promise, and what a sweep waits for."""

import datetime as dt
import random

import pytest

from services.sweeps.rate import Span
from services.sweeps.time_left import Forecast, Held, forecast

NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)
JOBS = 10


def held(
    began_s: float, ended_s: float | None, *, expires_s: float | None = None, completed: bool = True
) -> Held:
    """A lease; ``began_s`` and ``ended_s`` are seconds before now, ``expires_s`` after it."""

    def at(seconds: float) -> dt.datetime:
        return NOW + dt.timedelta(seconds=seconds)

    ended = None if ended_s is None else at(-ended_s)
    span = Span(JOBS, at(-began_s), ended, completed and ended is not None)
    return Held(span, None if expires_s is None else at(expires_s))


def one_after_the_other(durations: list[float]) -> list[Held]:
    """Leases of one worker, the last of which has just ended."""
    ends = [sum(durations[n + 1 :]) for n in range(len(durations))]
    return [held(end + took, end) for end, took in zip(ends, durations, strict=True)]


def foresee(leases: list[Held], *, pending: int = 0, unfinished: int = JOBS) -> Forecast:
    return forecast(leases, NOW, pending=pending, unfinished=unfinished, workers="a free worker")


@pytest.mark.parametrize("spread", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("known", [1, 3, 10, 40])
def test_nine_of_ten_sweeps_finish_within_the_range(known: int, spread: float) -> None:
    chance = random.Random(known)
    inside = 0
    for _ in range(400):
        groups = [chance.lognormvariate(0.0, spread) for _ in range(known + 30)]
        found = foresee(one_after_the_other(groups[:known]), pending=300, unfinished=300)
        assert found.eta_low_s is not None
        assert found.eta_high_s is not None
        inside += found.eta_low_s <= sum(groups[known:]) <= found.eta_high_s
    assert inside >= 0.9 * 400


def test_the_range_is_wide_at_the_start_and_narrows() -> None:
    factors = []
    for known in (1, 10, 100):
        found = foresee(one_after_the_other([2.0] * known), pending=1000, unfinished=1000)
        assert found.eta_s == pytest.approx(200.0)
        assert found.eta_low_s is not None
        assert found.eta_high_s is not None
        assert found.eta_low_s < 200.0 < found.eta_high_s
        factors.append(found.eta_high_s / 200.0)
    assert factors[0] > 4
    assert factors[1] < 1.5
    assert factors[2] < 1.1


def test_a_lost_lease_adds_the_time_until_it_expires() -> None:
    done = one_after_the_other([2.0] * 20)
    found = foresee([*done, held(15.0, None, expires_s=45.0)], unfinished=JOBS)
    assert found.eta_s == pytest.approx(45.0 + 2.0)
    assert found.eta_low_s == 45.0
    assert found.eta_high_s is not None
    assert 47.0 < found.eta_high_s < 60.0
    assert found.waiting_for == "the lease of a lost worker to expire, within 45 s"


def test_a_lost_lease_hinders_nobody_while_there_is_other_work() -> None:
    done = one_after_the_other([2.0] * 20)
    found = foresee([*done, held(15.0, None, expires_s=45.0)], pending=1000, unfinished=1010)
    assert found.waiting_for is None
    assert found.eta_s == pytest.approx(202.0)


def test_a_lost_worker_does_not_count_as_working() -> None:
    with_it = foresee([*one_after_the_other([2.0] * 20), held(40.0, None, expires_s=5.0)])
    assert with_it.jobs_per_s == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("leases", "pending", "waiting_for"),
    [
        ([], JOBS, "a free worker"),
        ([held(3.0, None)], 0, "the first results"),
        ([held(300.0, 298.0), held(298.0, None)], 0, "results: its groups take longer than before"),
        ([held(300.0, 298.0)], JOBS, "a free worker"),
        (
            [held(90.0, None, expires_s=12.0)],
            0,
            "the lease of a lost worker to expire, within 15 s",
        ),
        ([held(90.0, None, expires_s=12.0)], JOBS, "a free worker"),
        (
            [held(90.0, None, expires_s=-30.0)],
            0,
            "a dispatcher, which takes back the jobs of a lost worker: none is running",
        ),
    ],
)
def test_a_sweep_that_does_not_move_says_what_it_waits_for(
    leases: list[Held], pending: int, waiting_for: str
) -> None:
    assert foresee(leases, pending=pending) == Forecast(waiting_for=waiting_for)
