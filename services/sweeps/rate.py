"""How fast a sweep moves, from the leases of its recent past."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SAMPLE = 128  # leases that the rate rests on
PARALLEL_S = 60.0  # how far back it is asked how many work at once
BRIDGED_S = 5.0  # a shorter break between two leases belongs to the work


@dataclass(frozen=True, slots=True)
class Span:
    """A lease: how many jobs it held, from when to when, and whether it gave results."""

    jobs: int
    began: dt.datetime
    ended: dt.datetime | None
    completed: bool


def estimate_rate(spans: Sequence[Span], now: dt.datetime) -> float | None:
    """Returns jobs per second, or None where nothing has moved of late.

    It is the jobs that a lease brings per second it is held, over the latest ``SAMPLE`` that ended,
    times how many leases are held at once, on average over the working time of the last minute. So
    time in which nobody worked counts nowhere: neither a pause, nor a night without workers. Leases
    that ended without results count as time without jobs.

    None means that no lease has ended, or none for a minute and three times as long as the longest
    took, or that nobody worked in the last minute.

    Args:
        spans: the open leases, and the latest that ended, up to ``SAMPLE``.
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
    """Returns how many leases were held at once, on average while somebody worked."""
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
