"""How long a running sweep will still take, as a range, and what it waits for."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.sweeps.rate import Span, estimate_rate

PRIOR_SPREAD = 1.0  # relative standard deviation of groups' durations before any is known
PRIOR_GROUPS = 2  # the prior counts as that many groups
DEVIATIONS = 2.0  # half width of the range in standard deviations; durations are skewed
LATE_S = 10.0  # a dispatcher takes back expired leases within this time


@dataclass(frozen=True, slots=True)
class Forecast:
    """A running sweep's rate, its remaining time, and what keeps it from progress."""

    jobs_per_s: float | None = None  # None when nothing moves, and so the next three
    eta_s: float | None = None  # the likely time left, seconds
    eta_low_s: float | None = None  # nine of ten sweeps take between low and high
    eta_high_s: float | None = None
    waiting_for: str | None = None  # words after "waiting for"; None while it progresses


NO_FORECAST = Forecast()


@dataclass(frozen=True, slots=True)
class Held:
    """What the forecast needs to know of a lease: its work, and whether its worker is lost."""

    span: Span
    lost_until: dt.datetime | None  # when the lease of a lost worker expires


def forecast(
    leases: Sequence[Held], now: dt.datetime, *, pending: int, unfinished: int, workers: str
) -> Forecast:
    """Returns the forecast of a running sweep.

    The range assumes that the remaining groups take as long as those measured, in random order,
    and that the number of workers stays the same. A lease whose worker is lost adds the time until
    it expires and other workers can repeat its jobs.

    Args:
        leases: the open leases, and the latest ``rate.SAMPLE`` of those that ended.
        pending: number of jobs that no lease holds.
        unfinished: number of jobs that need more work.
        workers: what a sweep without leases waits for, in words.
    """
    spans = [lease.span for lease in leases if lease.lost_until is None]
    lost = [lease for lease in leases if lease.lost_until is not None]
    rate = estimate_rate(spans, now)
    if not rate:
        return Forecast(waiting_for=_obstacle(spans, lost, now, pending, workers))
    likely_s, factor = unfinished / rate, _uncertainty(spans, unfinished)
    low_s, high_s = likely_s / factor, likely_s * factor
    if lost:
        wait_s = max(_remaining_s(lost, now), 0.0)
        likely_s = max(likely_s, wait_s + sum(lease.span.jobs for lease in lost) / rate)
        low_s, high_s = max(low_s, wait_s), max(high_s, wait_s + (likely_s - wait_s) * factor)
    is_idle = not pending and all(span.ended for span in spans)
    return Forecast(
        rate, likely_s, low_s, high_s, _lost_lease(lost, now) if lost and is_idle else None
    )


def _uncertainty(spans: Sequence[Span], unfinished: int) -> float:
    """Returns the factor between the likely time left and the ends of its range."""
    done = [
        (span.jobs, (span.ended - span.began).total_seconds())
        for span in spans
        if span.ended is not None and span.completed and span.jobs
    ]
    jobs, held_s = sum(n for n, _ in done), sum(s for _, s in done)
    errors = [((s / n) / (held_s / jobs) - 1) ** 2 for n, s in done]
    variance = (PRIOR_GROUPS * PRIOR_SPREAD**2 + sum(errors)) / (PRIOR_GROUPS + len(done) - 1)
    groups_left = max(1.0, unfinished * len(done) / jobs)
    return math.exp(DEVIATIONS * math.sqrt(variance * (1 / len(done) + 1 / groups_left)))


def _obstacle(
    spans: Sequence[Span], lost: Sequence[Held], now: dt.datetime, pending: int, workers: str
) -> str:
    """Returns what a sweep without a rate waits for."""
    if any(span.ended is None for span in spans):
        return _results(spans)
    return workers if pending or not lost else _lost_lease(lost, now)


def _remaining_s(lost: Sequence[Held], now: dt.datetime) -> float:
    ends = [lease.lost_until for lease in lost if lease.lost_until is not None]
    return (max(ends) - now).total_seconds()


def _results(spans: Sequence[Span]) -> str:
    if any(span.completed for span in spans):
        return "results: its groups take longer than before"
    return "the first results"


def _lost_lease(lost: Sequence[Held], now: dt.datetime) -> str:
    remaining_s = _remaining_s(lost, now)
    if remaining_s < -LATE_S:
        return "a dispatcher, which takes back the jobs of a lost worker: none is running"
    seconds = max(5, 5 * math.ceil(remaining_s / 5))  # steps, so that the text changes rarely
    return f"the lease of a lost worker to expire, within {seconds} s"
