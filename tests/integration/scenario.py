"""Steps that integration tests share: a small sweep, a worker, claims, results."""

import uuid
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leasing.group_leases import Claim, claim_group, complete_claim
from services.monitoring.workers import register_worker
from services.sweeps.creation import create_sweep
from shared.domain.measurements import (
    Environment,
    JobOutcome,
    Reason,
    Throughput,
    ThroughputSource,
    TrialResult,
)
from shared.domain.protocol import Order, Protocol
from shared.domain.space import LayerSpace, SearchSpace
from shared.domain.status import JobStatus

COUNTED = tuple(status.value for status in JobStatus)
GROUP_SIZE = 4
GROUPS = 3


def small_space(groups: int = GROUPS) -> SearchSpace:
    """A space of ``groups`` groups with four architectures each; all fit 1 x 32 x 32."""
    return SearchSpace(
        layers=(
            LayerSpace(channels=tuple(range(1, groups + 1))),
            LayerSpace(channels=(2,), kernel_size=(3, 5), stride=(1, 2)),
        )
    )


def small_protocol(trials: int = 2, order: Order = Order.GRID) -> Protocol:
    return Protocol(dataset="digits", input_shape=(1, 32, 32), trials=trials, order=order)


def add_sweep(session: Session, *, groups: int = GROUPS, trials: int = 2) -> int:
    """Creates and commits a small sweep in grid order and returns its id."""
    sweep = create_sweep(session, small_space(groups), small_protocol(trials))
    session.commit()
    return sweep.id


def add_worker(session: Session) -> uuid.UUID:
    """Registers and commits a worker and returns its id."""
    worker_id = uuid.uuid4()
    register_worker(
        session,
        worker_id,
        hostname="box",
        pid=7,
        device_class="cpu",
        device="a processor",
        code_version="1",
    )
    session.commit()
    return worker_id


def claim(
    session: Session,
    sweep_id: int,
    group: int = 0,
    *,
    worker_id: uuid.UUID | None = None,
    lease_s: float = 60,
    limit: int = 64,
) -> Claim | None:
    """Claims and commits."""
    found = claim_group(
        session,
        sweep_id=sweep_id,
        group=group,
        worker_id=worker_id or add_worker(session),
        lease_s=lease_s,
        limit=limit,
    )
    session.commit()
    return found


def claimed(session: Session, sweep_id: int, group: int = 0, *, lease_s: float = 60) -> Claim:
    """Claims and commits where something is left to claim."""
    found = claim(session, sweep_id, group, lease_s=lease_s)
    assert found is not None
    return found


def trial(number: int, accuracy: float = 0.5, images_per_s: float | None = 100.0) -> TrialResult:
    throughput = None
    if images_per_s is not None:
        throughput = Throughput(images_per_s, 0.01, 9, ThroughputSource.MEASURED)
    return TrialResult(
        trial=number,
        accuracy=accuracy,
        train_accuracy=min(1.0, accuracy + 0.1),
        fit_s=0.25,
        weights_seed=2**63 - 1 - abs(number),
        correct_bits=bytes([0b10100000, abs(number)]),
        throughput=throughput,
    )


def success(trials: Sequence[TrialResult]) -> JobOutcome:
    return JobOutcome(JobStatus.COMPLETED, trials=tuple(trials))


def successes(claim: Claim, accuracy: float = 0.5) -> list[JobOutcome]:
    """An outcome per job of the claim, every trial with the same accuracy."""
    return [success([trial(number, accuracy) for number in job.trials]) for job in claim.jobs]


def rejection(*numbers: int) -> JobOutcome:
    """A job that misses a gate, with these trials measured, by default the first one."""
    trials = tuple(trial(number, 0.1) for number in numbers or (0,))
    return JobOutcome(JobStatus.REJECTED, Reason.ACCURACY_BELOW_MINIMUM, trials=trials)


def environment(device: str = "a processor") -> Environment:
    return Environment(
        code_version="1",
        device_class="cpu",
        device=device,
        dataset="digits",
        dataset_hash="ab" * 32,
        versions={"torch": "2", "python": "3"},
    )


def complete(session: Session, claim: Claim, outcomes: Sequence[JobOutcome] | None = None) -> int:
    """Completes and commits; by default every trial succeeds."""
    outcomes = successes(claim) if outcomes is None else outcomes
    written = complete_claim(session, claim, outcomes, environment())
    session.commit()
    return written


def finish_sweep(session: Session, sweep_id: int, groups: int = GROUPS) -> None:
    """Completes every group of a sweep."""
    for group in range(groups):
        complete(session, claimed(session, sweep_id, group))


def expire(session: Session, *claims: Claim) -> None:
    """Lets leases end a second ago by the database's clock, and commits."""
    session.execute(
        text("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second' "
             "WHERE token = ANY(:tokens)"),
        {"tokens": [one.token for one in claims]},
    )  # fmt: skip
    session.commit()


def statuses(session: Session, sweep_id: int) -> dict[int, str]:
    """Returns the status of every job by its id, read anew."""
    rows = session.execute(
        text("SELECT id, status FROM jobs WHERE sweep_id = :id ORDER BY id"), {"id": sweep_id}
    )
    return {row.id: row.status for row in rows}


def assert_counts_add_up(session: Session, sweep_id: int) -> dict[str, int]:
    """Checks that kept counts equal a recount and add up to the total; returns those not zero."""
    columns = ", ".join(COUNTED)
    kept = session.execute(
        text(f"SELECT total, {columns} FROM sweep_progress p JOIN sweeps s ON s.id = p.sweep_id "
             "WHERE s.id = :id"),
        {"id": sweep_id},
    ).one()  # fmt: skip
    recount = dict.fromkeys(COUNTED, 0)
    for status in statuses(session, sweep_id).values():
        recount[status] += 1
    counts = {name: getattr(kept, name) for name in COUNTED}
    assert counts == recount
    assert sum(counts.values()) == kept.total
    stray = session.execute(
        text("SELECT g.index FROM groups g LEFT JOIN jobs j ON j.sweep_id = g.sweep_id "
             "AND j.group_index = g.index AND j.status = 'pending' WHERE g.sweep_id = :id "
             "GROUP BY g.sweep_id, g.index HAVING g.pending <> count(j.id)"),
        {"id": sweep_id},
    ).all()  # fmt: skip
    assert stray == []
    session.commit()
    return {name: count for name, count in counts.items() if count}
