"""Rate limits: requests per client and minute, counted by all processes of the API together."""

import math
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

import structlog
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from shared.messaging.broker import connect_broker
from shared.settings import Settings

log = structlog.get_logger(__name__)

BROKER_TIMEOUT_S = 0.25
REFUSED_S = 1.0
MAX_REFUSALS = 10_000
AWAY_S = 5.0  # pause before the next request to a broker that did not answer


class Budget(StrEnum):
    """Kinds of requests that are counted separately."""

    READ = "read"
    WRITE = "write"
    FAILURE = "failure"  # requests without a valid key


@dataclass(frozen=True, slots=True)
class Verdict:
    """The remaining budget after a request."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that report the budget to the client."""
        headers = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        return headers if self.allowed else headers | {"Retry-After": str(self.reset_s)}


class RateLimits:
    """Counts requests over a sliding minute, in Redis; in this process while Redis is unavailable.

    A Redis that does not answer refuses no request. It delays only the requests under way when it
    stops and then one request every ``AWAY_S`` seconds, each by ``BROKER_TIMEOUT_S``.
    """

    def __init__(self, settings: Settings) -> None:
        self._per_minute = {
            Budget.READ: settings.reads_per_minute,
            Budget.WRITE: settings.writes_per_minute,
            Budget.FAILURE: settings.failures_per_minute,
        }
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = SlidingWindowCounterRateLimiter(_shared_storage(settings))
        self._away_until: float | None = None
        self._turn = threading.Lock()

    def take(self, budget: Budget, client: str, cost: int = 1) -> Verdict | None:
        """Takes the cost of a request from a client's budget; None where there is no limit."""
        limit = self._per_minute[budget]
        if limit == 0:
            return None
        item = RateLimitItemPerMinute(limit, namespace="convsweep")
        if self._may_ask():
            try:
                verdict = _take(self._shared, item, budget, client, cost)
            except StorageError as error:
                log.warning("rate_limits_apart", error=str(error.storage_error), seconds=AWAY_S)
                self._away_until = time.monotonic() + AWAY_S
            else:
                self._away_until = None
                return verdict
        return _take(self._own, item, budget, client, cost)

    def _may_ask(self) -> bool:
        """Says whether to ask Redis; while it is unavailable, one request at a time tries."""
        if self._away_until is None:
            return True
        with self._turn:
            if self._away_until is None or time.monotonic() < self._away_until:
                return self._away_until is None
            self._away_until = time.monotonic() + AWAY_S
            return True


class Refusals:
    """Who was refused in the last second: repeats need neither a key check nor Redis.

    Requests are known by all that decides about them, such as their address, key and budget.
    """

    def __init__(self) -> None:
        self._refused: dict[Hashable, tuple[float, Verdict]] = {}

    def note(self, request: Hashable, verdict: Verdict) -> None:
        """Remembers a refusal for a second."""
        if len(self._refused) >= MAX_REFUSALS:
            self._refused.clear()
        self._refused[request] = (time.monotonic() + REFUSED_S, verdict)

    def find(self, request: Hashable) -> Verdict | None:
        """Returns the verdict about such a request in the last second, if it was refused."""
        until, verdict = self._refused.get(request, (0.0, None))
        if time.monotonic() < until:
            return verdict
        self._refused.pop(request, None)
        return None


def _take(
    limiter: SlidingWindowCounterRateLimiter,
    item: RateLimitItemPerMinute,
    budget: Budget,
    client: str,
    cost: int,
) -> Verdict:
    cost = min(cost, item.amount)  # a small budget permits a costly request now and then
    allowed = limiter.hit(item, budget.value, client, cost=cost)
    reset_at, remaining = limiter.get_window_stats(item, budget.value, client)
    reset_s = max(1, math.ceil(reset_at - time.time()))
    return Verdict(allowed, item.amount, remaining, reset_s)


def _shared_storage(settings: Settings) -> RedisStorage:
    pool = connect_broker(settings, BROKER_TIMEOUT_S).connection_pool
    return RedisStorage("redis://", connection_pool=pool, wrap_exceptions=True)
