"""Timing the reference networks on a device."""

import torch

from shared.domain.measurements import Conditions
from shared.domain.reference_set import INPUT_SHAPE, NETWORKS, TIMING
from worker.engine.device_access import DeviceAccess, DeviceMeter, Progress
from worker.engine.layers import timed_network
from worker.engine.timing import measure_throughput


def time_references(
    device: torch.device, access: DeviceAccess, meter: DeviceMeter, on_progress: Progress
) -> tuple[list[float], Conditions]:
    """Returns images per second of each reference network, and the state of the device around.

    Raises:
        RuntimeError: the device failed; ``worker.engine.faults.classify`` says how.
    """
    images = torch.rand(
        TIMING.batch_size, *INPUT_SHAPE, generator=torch.Generator().manual_seed(0)
    ).to(device)
    with access.exclusive(on_progress):
        before = meter.read()
        speeds = [
            measure_throughput(
                timed_network(network, INPUT_SHAPE[0], device), images, TIMING, on_progress
            ).images_per_s
            for network in NETWORKS
        ]
        return speeds, meter.conditions(before, meter.read())
