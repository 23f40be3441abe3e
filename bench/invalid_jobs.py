"""What the invalid architectures of the published space cost a sweep: leases, reads and writes.

``python -m bench.invalid_jobs``: creates the published sweep, then claims and completes every group
through the same services as a worker, with trials made up at once, so that no engine's time counts.
Prints as JSON how many groups have no valid architecture and the seconds by kind of group.
"""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from bench.result_rows import HERE
from bench.servers import running_servers
from services.leasing.group_leases import claim_group, complete_claim
from services.monitoring.workers import register_worker
from services.sweeps.creation import create_sweep
from shared.db.session import make_engine, make_session_factory
from shared.domain.measurements import (
    JobOutcome,
    Reason,
    Throughput,
    ThroughputSource,
    TrialResult,
)
from shared.domain.protocol import PROTOCOL_PRESETS, Protocol
from shared.domain.space import SearchSpace, random_cnn_2025
from shared.domain.status import JobStatus
from shared.settings import Settings, child_environment

BITS = bytes(63)  # of 500 validation images
RATE = Throughput(1000.0, 0.01, 9, ThroughputSource.MEASURED)


@dataclass(frozen=True, slots=True)
class Timing:
    """A group that was claimed and completed."""

    jobs: int
    valid: int
    seconds: float


def select_valid(space: SearchSpace, protocol: Protocol) -> NDArray[np.bool_]:
    """Returns (architectures,): which of a space are valid under a protocol, in its order."""
    gates, parts = protocol.gates, []
    for table in space.tables(protocol.input_shape):
        refused = table.reasons(gates.min_ratio, gates.max_ratio).values()
        parts.append(~np.logical_or.reduce(list(refused)))
    return np.concatenate(parts)


def make_outcome(trials: range, valid: bool) -> JobOutcome:
    """Returns what a worker reports of a job, with made-up figures."""
    if not valid:
        return JobOutcome(JobStatus.INVALID, Reason.INVALID_SHAPE)
    results = (
        TrialResult(
            trial=number, accuracy=0.5, train_accuracy=0.6, fit_s=0.1, weights_seed=number,
            correct_bits=BITS, throughput=RATE,
        )
        for number in trials
    )  # fmt: skip
    return JobOutcome(JobStatus.COMPLETED, trials=tuple(results))


def run_group(
    session: Session, sweep_id: int, group: int, worker: uuid.UUID, valid: NDArray[np.bool_]
) -> Timing:
    """Claims and completes a group, a transaction each; ``valid`` is in the order of its jobs."""
    started = time.perf_counter()
    claim = claim_group(
        session, sweep_id=sweep_id, group=group, worker_id=worker, lease_s=60, limit=len(valid)
    )
    session.commit()
    assert claim is not None
    outcomes = [
        make_outcome(job.trials, bool(is_valid))
        for job, is_valid in zip(claim.jobs, valid, strict=True)
    ]
    complete_claim(session, claim, outcomes, HERE)
    session.commit()
    return Timing(len(valid), int(valid.sum()), time.perf_counter() - started)


def run_sweep(settings: Settings) -> dict[str, object]:
    """Runs the published sweep without an engine and returns what its groups cost."""
    space, protocol = random_cnn_2025(), PROTOCOL_PRESETS["random-cnn-2025"]()
    valid = select_valid(space, protocol).reshape(space.groups, -1)
    factory, worker = make_session_factory(make_engine(settings)), uuid.uuid4()
    with factory.begin() as session:
        register_worker(
            session, worker, hostname="bench", pid=1, device_class="cpu", device="none",
            code_version="bench",
        )  # fmt: skip
        sweep_id = create_sweep(session, space, protocol).id
    with factory() as session:
        timings = [
            run_group(session, sweep_id, group, worker, mask) for group, mask in enumerate(valid)
        ]
    without = [timing for timing in timings if not timing.valid]
    others = [timing for timing in timings if timing.valid]
    return {
        "architectures": len(space),
        "invalid": int((~valid).sum()),
        "trials": protocol.trials,
        "groups": space.groups,
        "groups_without_valid": _summary(without),
        "other_groups": _summary(others),
    }


def _summary(timings: Iterable[Timing]) -> dict[str, float]:
    timings = list(timings)
    return {
        "groups": len(timings),
        "jobs": sum(timing.jobs for timing in timings),
        "invalid_jobs": sum(timing.jobs - timing.valid for timing in timings),
        "seconds": round(sum(timing.seconds for timing in timings), 3),
        "median_ms": round(1000 * median(timing.seconds for timing in timings), 2),
    }


def main() -> None:
    with running_servers() as settings:
        command = [sys.executable, "-m", "migrations"]
        subprocess.run(command, env=child_environment(settings), check=True)
        print(json.dumps(run_sweep(settings), indent=1))


if __name__ == "__main__":
    main()
