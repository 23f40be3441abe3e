"""Prometheus metrics of an API process: its own requests, and the cluster by the database."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from services.monitoring.totals import ClusterState, read_cluster_state
from shared.db.availability import log_unavailable
from shared.messaging.broker import connect_broker, count_hints, count_refused
from shared.metrics import REQUEST_BUCKETS_S, new_registry
from shared.settings import Settings

log = structlog.get_logger(__name__)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
KEPT_S = 3.0
PATIENCE_S = 2.0

T = TypeVar("T")


class RequestTimes:
    """How long requests took, by method, route and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "convsweep_http_request_duration_seconds",
            "Time from a request to the end of its answer.",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one request."""
        self._seconds.labels(method, route, str(status)).observe(seconds)


class CachedValue(Generic[T]):
    """A value that a thread computes: kept for a short time, and waited for only briefly."""

    def __init__(self, ask: Callable[[], T | None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._value: T | None = None
        self._known_until = 0.0

    def get(self) -> T | None:
        """Returns the value, at most ``KEPT_S`` old; None where none came in ``PATIENCE_S``."""
        with self._lock:
            if time.monotonic() < self._known_until:
                return self._value
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=self._refresh, daemon=True)
                self._asking.start()
            asking = self._asking
        asking.join(PATIENCE_S)
        return self._value if time.monotonic() < self._known_until else None

    def _refresh(self) -> None:
        self._value = self._ask()
        self._known_until = time.monotonic() + KEPT_S


class ClusterCollector(Collector):
    """The cluster's state at scrape time, without what Postgres or Redis does not answer."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._broker = connect_broker(settings, PATIENCE_S / 2)
        self._state = CachedValue(self._read_state)
        self._hints = CachedValue(self._read_hints)

    def collect(self) -> Iterator[Metric]:
        state, hints = self._state.get(), self._hints.get()
        yield _gauge("convsweep_database_up", "Whether Postgres answers.", state is not None)
        yield _gauge("convsweep_broker_up", "Whether Redis answers.", hints is not None)
        if hints is not None:
            waiting, refused = hints
            yield _gauge("convsweep_queue_hints", "Hints that wait for a worker.", waiting)
            yield _gauge(
                "convsweep_queue_refused", "Messages that were no hints, the latest 100.", refused
            )
        if state is not None:
            yield from _describe(state)

    def describe(self) -> list[Metric]:
        return []  # so that registering runs no query

    def _read_state(self) -> ClusterState | None:
        try:
            with self._sessions() as session:
                return read_cluster_state(session)
        except SQLAlchemyError as error:
            log_unavailable(error)
            return None

    def _read_hints(self) -> tuple[int, int] | None:
        from redis import RedisError

        try:
            return count_hints(self._broker), count_refused(self._broker)
        except RedisError as error:
            log.warning("broker_unavailable", error=str(error))
            return None


def _describe(state: ClusterState) -> Iterator[Metric]:
    yield _labelled("convsweep_sweeps", "Sweeps by state.", "status", state.sweeps)
    yield _labelled("convsweep_jobs", "Jobs of all sweeps by state.", "status", state.jobs)
    of_sweeps = GaugeMetricFamily(
        "convsweep_sweep_jobs",
        "Jobs by state of each running or paused sweep.",
        labels=["sweep_id", "status"],
    )
    for sweep_id, jobs in state.sweep_jobs.items():
        for status, count in jobs.items():
            of_sweeps.add_metric([str(sweep_id), status], count)
    yield of_sweeps
    yield _gauge(
        "convsweep_groups_pending", "Groups of running sweeps with jobs to do.",
        state.groups_pending,
    )  # fmt: skip
    yield _gauge(
        "convsweep_groups_hinted", "Those of them that a hint was sent about.",
        state.groups_hinted,
    )  # fmt: skip
    yield _gauge("convsweep_leases_open", "Leases that workers hold.", state.leases_open)
    expired = CounterMetricFamily("convsweep_leases_expired", "Leases that were not renewed.")
    expired.add_metric([], state.leases_expired)
    yield expired
    yield _labelled("convsweep_workers", "Workers seen lately.", "state", state.workers)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[Any, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def make_registry(settings: Settings, sessions: sessionmaker[Session]) -> CollectorRegistry:
    """Returns a registry that knows the cluster; connects to nothing yet."""
    registry = new_registry()
    registry.register(ClusterCollector(settings, sessions))
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """Returns the registry in Prometheus' text format."""
    return generate_latest(registry)
