"""How fast a sweep moves, from the leases of its recent past."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SAMPLE = 128  # latest leases that the rate is computed from
PARALLEL_S = 60.0  # period over which leases held at once are averaged
BRIDGED_S = 5.0  # a shorter break between two leases counts as work


@dataclass(frozen=True, slots=True)
class Span:
    """A lease: its number of jobs, its period, and whether it gave results."""

    jobs: int
    began: dt.datetime
    ended: dt.datetime | None
    completed: bool


def estimate_rate(spans: Sequence[Span], now: dt.datetime) -> float | None:
    """Returns jobs per second, or None if no lease has ended recently.

    The rate is the completed jobs per second of lease, over the latest ``SAMPLE`` leases that
    ended, times the average number of leases held at once in the working time of the last minute.
    Time without any lease does not count: neither a pause nor a night without workers. Leases that
    ended without results count as time without jobs.

    None means that no lease has ended, or none for a minute and three times the longest lease, or
    that no lease was held in the last minute.

    Args:
        spans: the open leases, and up to ``SAMPLE`` of the latest that ended.
    """
    ended = [(span, span.ended) for span in spans if span.ended is not None]
    held_s = [(end - span.began).total_seconds() for span, end in ended]
    if sum(held_s) <= 0:
        return None
    since_s = (now - max(end for _, end in ended)).total_seconds()
    if since_s > PARALLEL_S + 3 * max(held_s):
        return None
    jobs = sum(span.jobs for span, _ in ended if span.completed)
    rate = jobs / sum(held_s) * _parallel(spans, _known_since(ended, now), now)
    return rate or None


def _known_since(ended: Sequence[tuple[Span, dt.datetime]], now: dt.datetime) -> dt.datetime:
    """Returns the moment after which every lease is in the sample, a minute ago at most."""
    minute_ago = now - dt.timedelta(seconds=PARALLEL_S)
    if len(ended) < SAMPLE:
        return minute_ago
    return max(minute_ago, min(end for _, end in ended))


def _parallel(spans: Sequence[Span], start: dt.datetime, now: dt.datetime) -> float:
    """Returns the average number of leases held at once, over the time with any lease."""
    held_s, worked_s, reached = 0.0, 0.0, start
    for began, ended in _clipped(spans, start, now):
        held_s += (ended - began).total_seconds()
        bridged = min(now, ended + dt.timedelta(seconds=BRIDGED_S))
        worked_s += max(0.0, (bridged - max(began, reached)).total_seconds())
        reached = max(reached, bridged)
    return held_s / worked_s if worked_s else 0.0


def _clipped(
    spans: Sequence[Span], start: dt.datetime, now: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Yields the parts of spans that lie between ``start`` and ``now``, by their beginning."""
    for span in sorted(spans, key=lambda span: span.began):
        began, ended = max(span.began, start), min(span.ended or now, now)
        if ended > began:
            yield began, ended
