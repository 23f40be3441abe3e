"""Evaluating a group: shape check, one walk per trial, gates, timing, and an outcome per job."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from shared.domain.architecture import Architecture
from shared.domain.measurements import JobOutcome, Reason, Throughput, TrialResult
from shared.domain.protocol import Gates, Precision, Protocol, Timing, TimingRepeat
from shared.domain.status import JobStatus
from worker.engine.budgets import MEMORY_LIMITS
from worker.engine.cpu.tuning import CpuTuning, tuning_of_this_machine
from worker.engine.data.datasets import Dataset
from worker.engine.data.on_device import IMAGES
from worker.engine.device_access import DeviceAccess, DeviceMeter, SoleAccess
from worker.engine.faults import Fault, classify, release_memory
from worker.engine.layers import layer_seeds, network_shapes, timed_network
from worker.engine.timing import (
    COOLING_S,
    LAYER_TIMES,
    SLOWEST_RATES,
    arithmetic,
    measure_throughput,
    screen_throughput,
    time_unthrottled,
)
from worker.engine.tree import DrawnLayer, Network, grow_tree
from worker.engine.walk import Prediction, Walk

DEFAULT_MEMORY_BUDGET_BYTES = 4 * 2**30
MIN_MEMORY_BUDGET_BYTES = 2**20


def _nothing() -> None:
    return None


def evaluate_group(
    architectures: Sequence[Architecture],
    trials: Sequence[range],
    dataset: Dataset,
    protocol: Protocol,
    device: torch.device,
    *,
    timed: Sequence[bool] | None = None,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    on_progress: Callable[[], None] = _nothing,
    device_lock: DeviceAccess | None = None,
    meter: DeviceMeter | None = None,
    tuning: CpuTuning | None = None,
) -> list[JobOutcome]:
    """Evaluates architectures together and returns one outcome for each, in their order.

    ``trials[i]`` are the numbers of the trials that architecture ``i`` still needs, and
    ``timed[i]`` is whether this device need not time it (default: it must). Layers that
    share their weights are computed once per trial, and no network's results depend on another.
    Images and labels are those of ``dataset``, float32 (N, C, H, W) and int64 (N,). All randomness
    comes from the protocol's seed. ``memory_budget_bytes`` bounds the tensors alive at one time.
    ``on_progress`` is called between steps; what it raises ends the evaluation. ``device_lock``
    grants access to a device that other processes compute on. ``meter`` reads its state; where that
    shows that it is too slow to be timed, networks stay untimed. ``tuning`` replaces that of this
    machine.

    Raises:
        DevicePoisonedError: the device context is damaged; this process must end.
    """
    lock = device_lock or SoleAccess()
    group = _Group(dataset, protocol, device, memory_budget_bytes, on_progress, lock, meter, tuning)
    before = timed or [False] * len(architectures)
    jobs = [_Job(*job) for job in zip(architectures, trials, before, strict=True)]
    for job in jobs:
        _check_shape(job, protocol)
        if job.open and (fault := _dataset_fault(dataset, protocol)):
            group.fail(job, job.trials.start, Reason.ENGINE_ERROR, fault)
    for trial in sorted({trial for job in jobs for trial in job.trials}):
        open_jobs = [job for job in jobs if job.open and trial in job.trials]
        if open_jobs:
            group.run_trial(trial, open_jobs)
    group.time_without_trial([job for job in jobs if job.open and not job.trials])
    return [job.outcome() for job in jobs]


def predict_trial(
    architectures: Sequence[Architecture],
    trial: int,
    dataset: Dataset,
    protocol: Protocol,
    device: torch.device,
    *,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    on_progress: Callable[[], None] = _nothing,
    tuning: CpuTuning | None = None,
) -> list[Prediction]:
    """Returns what one trial of each architecture, whose kernels must fit, predicts of all images.

    Labels come back on the CPU, training images first; they are sent from the device all at once.

    Raises:
        RuntimeError: the device failed; ``worker.engine.faults.classify`` says how.
    """
    data = IMAGES.get(dataset, device, memory_budget_bytes)
    networks = []
    for member, architecture in enumerate(architectures):
        seeds = layer_seeds(protocol, architecture, trial)
        drawn = [DrawnLayer(*pair) for pair in zip(architecture.layers, seeds, strict=True)]
        shapes = network_shapes(architecture, protocol.input_shape)
        assert shapes is not None
        networks.append(Network(member, drawn, shapes))
    walk = Walk(
        data.images, data.targets, protocol.ridge_alpha, memory_budget_bytes, on_progress,
        tuning or tuning_of_this_machine(),
    )  # fmt: skip
    with torch.inference_mode(), arithmetic(Precision.FLOAT32, search=False):
        predictions = walk.run(grow_tree(networks, protocol.input_shape))
        return _to_host([predictions[member] for member in range(len(architectures))])


@dataclass(eq=False)
class _Job:
    """One architecture on its way to an outcome."""

    architecture: Architecture
    trials: range
    timed: bool
    results: list[TrialResult] = field(default_factory=list)
    timing: Throughput | None = None  # without a trial
    throttled: bool = False
    ended: JobOutcome | None = None

    @property
    def open(self) -> bool:
        return self.ended is None

    def end(self, status: JobStatus, reason: Reason, error: str | None = None) -> None:
        self.ended = JobOutcome(status, reason, error)

    def outcome(self) -> JobOutcome:
        end = self.ended or JobOutcome(JobStatus.COMPLETED)
        results = tuple(self.results)
        return JobOutcome(end.status, end.reason, end.error, results, self.timing, self.throttled)


def _check_shape(job: _Job, protocol: Protocol) -> None:
    shapes = network_shapes(job.architecture, protocol.input_shape)
    if shapes is None:
        return job.end(JobStatus.INVALID, Reason.INVALID_SHAPE)
    ratio = float(np.prod(shapes[-1]) / np.prod(protocol.input_shape))
    if protocol.gates.max_ratio is not None and ratio > protocol.gates.max_ratio:
        job.end(JobStatus.INVALID, Reason.RATIO_ABOVE_MAXIMUM)
    elif protocol.gates.min_ratio is not None and ratio < protocol.gates.min_ratio:
        job.end(JobStatus.INVALID, Reason.RATIO_BELOW_MINIMUM)
    return None


def _dataset_fault(dataset: Dataset, protocol: Protocol) -> str | None:
    for images in (dataset.train_images, dataset.validation_images):
        if tuple(images.shape[1:]) != protocol.input_shape:
            return f"images of {tuple(images.shape[1:])} where {protocol.input_shape} is expected"
    for labels in (dataset.train_labels, dataset.validation_labels):
        if int(labels.min()) < 0 or int(labels.max()) >= dataset.classes:
            return f"labels outside 0..{dataset.classes - 1}"
    return None


@dataclass
class _Group:
    dataset: Dataset
    protocol: Protocol
    device: torch.device
    budget: int
    on_progress: Callable[[], None]
    lock: DeviceAccess
    meter: DeviceMeter | None
    tuning: CpuTuning | None
    throttled: bool = False

    def run_trial(self, trial: int, jobs: Sequence[_Job]) -> None:
        """Probes, times and gates one trial of ``jobs``."""
        with self.lock.shared(self.on_progress):
            started = time.perf_counter()
            probed = self._probe(trial, jobs)
            probe_s = (time.perf_counter() - started) / len(jobs)
        for job, result in probed:
            job.results.append(replace(result, probe_s=probe_s))
            minimum = self._gates(trial).min_accuracy
            if minimum is not None and result.accuracy < minimum:
                job.end(JobStatus.REJECTED, Reason.ACCURACY_BELOW_MINIMUM)
        self._time_all(trial, [job for job, _ in probed if job.open])

    def time_without_trial(self, jobs: Sequence[_Job]) -> None:
        """Times and gates networks that other devices have probed."""
        self._time_all(None, jobs)

    def _time_all(self, trial: int | None, jobs: Sequence[_Job]) -> None:
        untimed = [job for job in jobs if self._needs_timing(job)]
        if untimed:
            with self.lock.exclusive(self.on_progress):
                for job in untimed:
                    self._time(trial, job)

    def _gates(self, trial: int) -> Gates:
        """Returns the gates of a trial: trials beyond those of the protocol have none."""
        return self.protocol.gates if trial < self.protocol.trials else Gates()

    def _min_throughput(self, trial: int | None) -> float | None:
        """Returns the throughput below which a network is rejected, on a named model only."""
        if self.protocol.timing_model is None:
            return None
        return self._gates(trial or 0).min_throughput

    def _needs_timing(self, job: _Job) -> bool:
        timing = self.protocol.timing
        if timing is None or job.throttled:
            return False
        timed = job.timed or any(result.throughput for result in job.results)
        return timing.repeat is TimingRepeat.EACH_TRIAL or not timed

    def fail(self, job: _Job, trial: int | None, reason: Reason, cause: str) -> None:
        """Ends ``job`` with an error that says what failed where."""
        where = "" if trial is None else f", trial {trial}"
        error = f"Architecture {job.architecture}{where}: {cause}."
        job.end(JobStatus.FAILED, reason, error)

    def _probe(self, trial: int, jobs: Sequence[_Job]) -> list[tuple[_Job, TrialResult]]:
        predictions = self._predictions(trial, jobs)
        probed = []
        for job in jobs:
            if (prediction := predictions.get(id(job))) is None:
                continue
            if not prediction.finite:
                self.fail(job, trial, Reason.NON_FINITE, "features or scores are not finite")
                continue
            probed.append((job, self._result(trial, job, prediction)))
        return probed

    def _predictions(self, trial: int, jobs: Sequence[_Job]) -> dict[int, Prediction]:
        """Walks the tree of ``jobs``; if that fails, with less memory, then each job separately."""
        budget = first = MEMORY_LIMITS.budget(self.device, self.budget)
        while True:
            try:
                predictions = self._walk(trial, jobs, budget)
            except RuntimeError as error:
                fault = classify(error, self.device)
                if fault is None:
                    raise
            else:
                if budget < first:
                    MEMORY_LIMITS.learn(self.device, budget)
                return predictions
            if fault.reason is not Reason.OUT_OF_MEMORY or budget <= MIN_MEMORY_BUDGET_BYTES:
                return self._predict_separately(trial, jobs, fault)
            release_memory(self.device)
            budget //= 2

    def _predict_separately(
        self, trial: int, jobs: Sequence[_Job], fault: Fault
    ) -> dict[int, Prediction]:
        """Finds the jobs to which ``fault`` belongs, so that the others get their answers."""
        if len(jobs) == 1:
            self.fail(jobs[0], trial, fault.reason, fault.cause)
            return {}
        parts = [self._predictions(trial, [job]) for job in jobs]
        return {key: prediction for part in parts for key, prediction in part.items()}

    def _walk(self, trial: int, jobs: Sequence[_Job], budget: int) -> dict[int, Prediction]:
        predictions = predict_trial(
            [job.architecture for job in jobs],
            trial,
            self.dataset,
            self.protocol,
            self.device,
            memory_budget_bytes=budget,
            on_progress=self.on_progress,
            tuning=self.tuning,
        )
        return {id(job): prediction for job, prediction in zip(jobs, predictions, strict=True)}

    def _result(self, trial: int, job: _Job, prediction: Prediction) -> TrialResult:
        data = IMAGES.get(self.dataset, self.device, self.budget)
        correct = (prediction.labels == data.labels).numpy()
        train = len(self.dataset.train_images)
        return TrialResult(
            trial=trial,
            accuracy=float(correct[train:].mean()),
            train_accuracy=float(correct[:train].mean()),
            fit_s=prediction.fit.seconds() / prediction.fitted_together,
            weights_seed=layer_seeds(self.protocol, job.architecture, trial)[-1],
            correct_bits=np.packbits(correct[train:]).tobytes(),
        )

    def _time(self, trial: int | None, job: _Job) -> None:
        started = time.perf_counter()
        try:
            throughput = self._throughput(trial, job)
        except RuntimeError as error:
            fault = classify(error, self.device)
            if fault is None:
                raise
            release_memory(self.device)
            if trial is not None:
                job.results.pop()
            return self.fail(job, trial, fault.reason, f"timing: {fault.cause}")
        if throughput is None:
            job.throttled = self.throttled = True
            return None
        timing_s = time.perf_counter() - started
        if trial is None:
            job.timing = throughput
        else:
            job.results[-1] = replace(job.results[-1], throughput=throughput, timing_s=timing_s)
        minimum = self._min_throughput(trial)
        if minimum is not None and throughput.images_per_s < minimum:
            job.end(JobStatus.REJECTED, Reason.THROUGHPUT_BELOW_MINIMUM)
        return None

    def _throughput(self, trial: int | None, job: _Job) -> Throughput | None:
        """Returns the throughput of a network; None where the device is too slow to be timed.

        Once it is, this goes for the rest of the group.
        """
        timing = self.protocol.timing
        assert timing is not None
        if self.throttled:
            return None
        if screened := self._screened(trial, job, timing):
            return screened
        architecture, shape = job.architecture, self.protocol.input_shape
        network = timed_network(architecture, shape[0], self.device)
        data = IMAGES.get(self.dataset, self.device, self.budget)
        images = data.images[: timing.batch_size]
        measure = partial(measure_throughput, network, images, timing, self.on_progress)
        if self.meter is None:
            throughput: Throughput | None = measure()
        else:
            throughput = time_unthrottled(measure, self.meter, self.on_progress, COOLING_S)
        if throughput is None:
            return None
        flops = architecture.measures(shape).flops
        SLOWEST_RATES.add(self.device, timing, flops * throughput.images_per_s)
        return throughput

    def _screened(self, trial: int | None, job: _Job, timing: Timing) -> Throughput | None:
        """Returns an estimate if it is enough to rule the network out."""
        minimum, shape = self._min_throughput(trial), self.protocol.input_shape
        if not timing.screening or minimum is None:
            return None
        flops = job.architecture.measures(shape).flops
        if SLOWEST_RATES.surely_pass(self.device, timing, flops, minimum):
            return None
        estimate = LAYER_TIMES.estimate(
            job.architecture, shape, timing, self.device, self.on_progress
        )
        return screen_throughput(estimate, minimum)


def _to_host(predictions: list[Prediction]) -> list[Prediction]:
    """Copies labels and flags to the CPU by one copy, for which the host waits once."""
    rows = [torch.cat([p.labels, p.finite[None].to(p.labels.dtype)]) for p in predictions]
    on_host = torch.stack(rows).cpu()
    return [
        prediction._replace(labels=row[:-1], finite=row[-1].bool())
        for prediction, row in zip(predictions, on_host, strict=True)
    ]
