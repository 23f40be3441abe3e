"""What the executor asks of the engine, as one value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.domain.architecture import Architecture
from shared.domain.measurements import JobOutcome
from shared.domain.protocol import Protocol
from worker.device import Device
from worker.device_lock import DeviceLock, ReportWaiting, ignore_waiting
from worker.engine.data.datasets import Dataset
from worker.engine.device_access import DeviceMeter
from worker.engine.evaluate import evaluate_group


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """Architectures of one group to evaluate; ``trials[i]`` are those of ``architectures[i]``.

    ``timed[i]`` is whether the device need not time it. ``on_progress`` is called between
    steps; what it raises ends the evaluation. ``report_waiting`` is called when the device stays
    occupied for long. ``meter`` reads the device's state around timings.
    """

    architectures: Sequence[Architecture]
    trials: Sequence[range]
    timed: Sequence[bool]
    dataset: Dataset
    protocol: Protocol
    device: Device
    on_progress: Callable[[], None]
    report_waiting: ReportWaiting = ignore_waiting
    meter: DeviceMeter | None = None


Evaluate = Callable[[GroupRequest], list[JobOutcome]]


def evaluate_on_device(request: GroupRequest) -> list[JobOutcome]:
    """Evaluates a group with the engine and returns one outcome per architecture, in order.

    Raises:
        DevicePoisonedError: the device context is damaged; this process must end.
    """
    return evaluate_group(
        request.architectures,
        request.trials,
        request.dataset,
        request.protocol,
        request.device.torch_device,
        timed=request.timed,
        memory_budget_bytes=request.device.memory_budget_bytes,
        on_progress=request.on_progress,
        device_lock=DeviceLock(request.device.lock_path, request.report_waiting),
        meter=request.meter,
    )
