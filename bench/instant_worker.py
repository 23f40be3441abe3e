"""``python -m bench.instant_worker``: a worker as it is, on an engine that returns at once.

Everything but the arithmetic is real: messages, claims, results, heartbeat. Where
``CONVSWEEP_BENCH_TIMES`` names a folder, how long each claim and completion took is left there.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bench.transaction_times import watch_transactions
from shared.domain.architecture import Architecture
from shared.domain.measurements import JobOutcome, TrialResult
from shared.domain.protocol import Protocol
from shared.domain.status import JobStatus
from shared.settings import get_settings
from worker.engine.data.datasets import Dataset
from worker.process import run_worker

BITS = bytes(63)  # as for 500 validation images


def evaluate_at_once(
    architectures: Sequence[Architecture],
    trials: Sequence[range],
    dataset: Dataset,
    protocol: Protocol,
    device: torch.device,
    *,
    memory_budget_bytes: int,
    on_progress: Callable[[], None],
    device_lock: Path | None,
) -> list[JobOutcome]:
    """Returns a success for every architecture without looking at it."""
    on_progress()
    return [
        JobOutcome(
            JobStatus.COMPLETED,
            trials=tuple(
                TrialResult(number, 0.5, 0.5, 0.0, weights_seed=number, correct_bits=BITS)
                for number in wanted
            ),
        )
        for wanted in trials
    ]


def main() -> int:
    """Works until told to stop."""
    times = watch_transactions()
    folder = os.environ.get("CONVSWEEP_BENCH_TIMES")
    try:
        return run_worker(get_settings(), evaluate_at_once)
    finally:
        if folder:
            (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(times))


if __name__ == "__main__":
    sys.exit(main())
