"""``python -m bench.instant_worker``: a worker as it is, on an engine that returns at once.

Everything but the arithmetic is real: messages, claims, results, heartbeat. Where
``CONVSWEEP_BENCH_TIMES`` names a folder, how long each claim and completion took is left there.
"""

import json
import os
import sys
from pathlib import Path

from bench.transaction_times import watch_transactions
from shared.domain.measurements import JobOutcome, TrialResult
from shared.domain.status import JobStatus
from shared.settings import get_settings
from worker.evaluation.request import GroupRequest
from worker.process import run_worker

BITS = bytes(63)  # as for 500 validation images


def evaluate_at_once(request: GroupRequest) -> list[JobOutcome]:
    """Returns a success for every architecture without looking at it."""
    request.on_progress()
    return [
        JobOutcome(
            JobStatus.COMPLETED,
            trials=tuple(
                TrialResult(number, 0.5, 0.5, 0.0, weights_seed=number, correct_bits=BITS)
                for number in trials
            ),
        )
        for trials in request.trials
    ]


def main() -> int:
    """Works until asked to stop."""
    times = watch_transactions()
    folder = os.environ.get("CONVSWEEP_BENCH_TIMES")
    try:
        return run_worker(get_settings(), evaluate_at_once)
    finally:
        if folder:
            (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(times))


if __name__ == "__main__":
    sys.exit(main())
