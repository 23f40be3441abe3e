"""Prometheus metrics of a worker process: its work, durations and device."""

import errno
from collections.abc import Iterator, Sequence
from threading import Thread
from typing import Any, Literal
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.domain.errors import UnavailableError
from shared.domain.measurements import JobOutcome
from shared.metrics import EPOCH_BUCKETS_S, TRIAL_BUCKETS_S, new_registry
from shared.settings import Settings
from shared.version import code_version
from worker.device import Device

log = structlog.get_logger(__name__)

PORTS = 32  # workers of one machine take consecutive ports
WorkKind = Literal["group", "training"]
ENDS = ("completed", "released", "stale", "failed")
STAGES = ("probe", "fit", "timing", "write")


class WorkerMetrics:
    """What one worker counts since it started."""

    def __init__(self, worker_id: str, device: Device) -> None:
        self.registry = new_registry()
        self._jobs = self._counter("convsweep_worker_jobs", "Jobs ended by this worker.", "status")
        self._ends: dict[WorkKind, Counter] = {
            "group": self._counter(
                "convsweep_worker_groups", "Claims of groups by how they ended.", "end"
            ),
            "training": self._counter(
                "convsweep_worker_trainings", "Claims of trainings by how they ended.", "end"
            ),
        }
        self._stale = self._counter(
            "convsweep_worker_stale_completions", "Completions refused: their lease was over."
        )
        self._refused = self._counter(
            "convsweep_worker_messages_refused", "Messages in the queue that were no hints."
        )
        self._busy = Gauge(
            "convsweep_worker_busy", "Whether the worker works on a claim.", registry=self.registry
        )
        self._seconds = Histogram(
            "convsweep_worker_trial_seconds",
            "Time of one trial by stage; its share of the work that trials do together.",
            ["stage"],
            buckets=TRIAL_BUCKETS_S,
            registry=self.registry,
        )
        self._epoch_seconds = Histogram(
            "convsweep_worker_epoch_seconds",
            "Time of one epoch of a training, its validation included.",
            buckets=EPOCH_BUCKETS_S,
            registry=self.registry,
        )
        self._start_series(worker_id, device)
        self.registry.register(DeviceCollector(device))

    def _start_series(self, worker_id: str, device: Device) -> None:
        """Shows every series from the start, with zeros."""
        for ends in self._ends.values():
            for end in ENDS:
                ends.labels(end)
        for stage in STAGES:
            self._seconds.labels(stage)
        Gauge(
            "convsweep_worker_info", "Which worker this is.",
            ["worker_id", "device_class", "device", "code_version"], registry=self.registry,
        ).labels(worker_id, device.device_class, device.model, code_version()).set(1)  # fmt: skip

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def note_busy(self, busy: bool) -> None:
        """Records that a claim begins or ends."""
        self._busy.set(busy)

    def note_end(self, kind: WorkKind, end: str) -> None:
        """Counts a claim by how it ended, one of ``ENDS``."""
        self._ends[kind].labels(end).inc()

    def note_epoch(self, seconds: float) -> None:
        """Counts an epoch whose result has been written."""
        self._epoch_seconds.observe(seconds)

    def note_stale_completion(self) -> None:
        """Counts a completion whose lease was over."""
        self._stale.inc()

    def note_refused_message(self) -> None:
        """Counts a message that was no hint."""
        self._refused.inc()

    def note_outcomes(self, outcomes: Sequence[JobOutcome], write_s: float) -> None:
        """Counts written outcomes and the durations of their trials."""
        trials = [trial for outcome in outcomes for trial in outcome.trials]
        for outcome in outcomes:
            self._jobs.labels(outcome.status.value).inc()
        for trial in trials:
            self._seconds.labels("probe").observe(trial.probe_s)
            self._seconds.labels("fit").observe(trial.fit_s)
            if trial.timing_s is not None:
                self._seconds.labels("timing").observe(trial.timing_s)
            self._seconds.labels("write").observe(write_s / len(trials))


class DeviceCollector(Collector):
    """Utilisation and memory of the worker's GPU, from its driver; empty without a GPU."""

    def __init__(self, device: Device) -> None:
        self._uuid = device.uuid
        self._model = device.model
        self._handle: Any = None

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        if self._uuid is None:
            return
        import pynvml

        try:
            if self._handle is None:
                pynvml.nvmlInit()
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
            busy = pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        except pynvml.NVMLError as error:
            self._handle = None
            log.debug("device_not_read", error=str(error))
            return
        yield from self.show(busy, memory.used, memory.total)

    def show(self, busy: float, used_bytes: int, total_bytes: int) -> Iterator[Metric]:
        """Yields a reading of the device as metrics."""
        yield self._gauge("utilization_ratio", "Fraction of the time that the GPU is busy.", busy)
        yield self._gauge("memory_used_bytes", "Memory of the GPU in use.", used_bytes)
        yield self._gauge("memory_total_bytes", "Memory of the GPU.", total_bytes)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"convsweep_device_{name}", text, labels=["uuid", "device"])
        family.add_metric([str(self._uuid), self._model], value)
        return family


def serve_metrics(metrics: WorkerMetrics, settings: Settings) -> tuple[WSGIServer, Thread] | None:
    """Serves metrics on the settings' port or the next free one; None where the port is 0.

    Raises:
        UnavailableError: none of ``PORTS`` ports is free, or the address is not this machine's.
    """
    if settings.metrics_port == 0:
        return None
    host, first = settings.metrics_host, settings.metrics_port
    for port in range(first, min(first + PORTS, 65_536)):
        try:
            server = start_http_server(port, host, metrics.registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise UnavailableError(f"CONVSWEEP_METRICS_HOST {host}: {error}.") from error
        log.info("metrics_served", host=host, port=port)
        return server
    raise UnavailableError(f"CONVSWEEP_METRICS_PORT: {first} and the {PORTS - 1} after are taken.")
