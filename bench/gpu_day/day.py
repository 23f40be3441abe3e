"""What all parts share: the device, images, groups of networks, and clocks."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.workload import INPUT_SHAPE, Group, noise_dataset, sample_groups
from shared.domain.protocol import Gates, Protocol
from shared.settings import get_settings
from worker.device import Device, open_device, use_device
from worker.engine.data.datasets import Dataset
from worker.engine.evaluate import predict_trial
from worker.engine.walk import Prediction

Figures = dict[str, Any]

PROTOCOL = Protocol(dataset="noise", timing=None, gates=Gates())
SKIPPED_ON_CPU: Figures = {"skipped": "needs CUDA"}


@dataclass(frozen=True)
class Day:
    """One run of all parts on one device."""

    opened: Device
    dataset: Dataset
    small: bool  # few and small networks

    @classmethod
    def begin(cls, device: str, images: int, *, small: bool) -> "Day":
        """Makes ``device`` this process's device.

        Raises:
            DeviceUnavailableError: this machine has no such device.
        """
        return cls(
            use_device(open_device(device, get_settings().runtime_dir)),
            noise_dataset(images),
            small,
        )

    @property
    def device(self) -> torch.device:
        return self.opened.torch_device

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def predict(
        self, group: Group, trial: int = 0, device: torch.device | None = None
    ) -> list[Prediction]:
        """Returns what one trial of a group predicts, on this device unless another is given."""
        return predict_trial(
            group, trial, self.dataset, PROTOCOL, device or self.device,
            memory_budget_bytes=self.opened.memory_budget_bytes,
        )  # fmt: skip

    def groups(self, count: int, members: int, most_flops: float = 60e6) -> list[Group]:
        """Returns ``count`` groups of ``members`` networks of at most this many FLOPs an image.

        In a small run: one group of two cheaper networks.
        """
        if self.small:
            count, members, most_flops = 1, 2, most_flops / 3
        pick = random.Random(1)
        chosen: list[Group] = []
        for group in sample_groups(60, seed=4):
            cheap = [a for a in group if a.measures(INPUT_SHAPE).flops < most_flops]
            if len(cheap) >= members and len(chosen) < count:
                chosen.append(pick.sample(cheap, members))
        assert chosen, "no group of the sample has enough small networks"
        return chosen

    def wait(self) -> None:
        """Waits until the device has done all its work."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object], runs: int = 5) -> float:
        """Returns the mean seconds of a call, after one that is not counted."""
        run()
        self.wait()
        started = time.perf_counter()
        for _ in range(runs):
            run()
        self.wait()
        return (time.perf_counter() - started) / runs


Part = Callable[[Day], Figures]
