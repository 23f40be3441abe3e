"""Claiming, renewing, completing and handing back the jobs of a group, guarded by a lease token."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.db.models import Job
from shared.db.queries.dispatching import groups as group_queries
from shared.db.queries.leasing import leases as lease_queries
from shared.db.queries.monitoring import workers as worker_queries
from shared.db.queries.sweeps import jobs as job_queries
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.errors import DatasetMismatchError, StaleLeaseError, SweepNotFoundError
from shared.domain.measurements import Environment, JobOutcome, TrialResult
from shared.domain.protocol import Protocol


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job to evaluate: its architecture and the trials that it still needs."""

    id: int
    architecture: Architecture
    trials: range


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one group, held by one worker until the lease ends."""

    token: uuid.UUID
    sweep_id: int
    group: int
    jobs: tuple[ClaimedJob, ...]
    leaves_some: bool = False  # the group had more pending jobs than these at that moment


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a worker needs for the groups of a sweep."""

    protocol: Protocol
    dataset_hash: str | None  # of the images that its trials use; None before the first of them


def get_requirements(session: Session, sweep_id: int) -> Requirements:
    """Returns what a worker must be able to do for a sweep.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    found = sweep_queries.find_terms(session, sweep_id)
    if found is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    return Requirements(Protocol.model_validate(found.protocol), found.dataset_hash)


def architecture_of(job: Job | Row[Any]) -> Architecture:
    """Returns the architecture that a row with a job's columns describes."""
    layers = zip(
        job.channels,
        job.kernel_size,
        job.stride,
        job.dilation,
        job.padding,
        job.activation,
        strict=True,
    )
    return Architecture(tuple(map(LayerConfig._make, layers)))


def claim_group(
    session: Session,
    *,
    sweep_id: int,
    group: int,
    worker_id: uuid.UUID,
    lease_s: float,
    limit: int,
    token: uuid.UUID | None = None,
) -> Claim | None:
    """Leases pending jobs of a group; None where nothing is left to claim or the sweep rests.

    Args:
        token: a new one that the caller wants to know also when no answer comes.
    """
    token = token or uuid.uuid4()
    jobs = job_queries.claim_jobs(
        session,
        sweep_id=sweep_id,
        group=group,
        worker_id=worker_id,
        token=token,
        lease_s=lease_s,
        limit=limit,
    )
    if not jobs:
        return None
    claimed = tuple(
        ClaimedJob(job.id, architecture_of(job), range(job.trials_done, job.trials_target))
        for job in jobs
    )
    return Claim(token, sweep_id, group, claimed, jobs[0].group_pending > len(jobs))


def renew_lease(session: Session, token: uuid.UUID, lease_s: float) -> None:
    """Keeps a lease for another ``lease_s`` seconds by the database's clock.

    Raises:
        StaleLeaseError: the lease is over; whatever the worker does for it is in vain.
    """
    if not lease_queries.renew_lease(session, token, lease_s):
        raise StaleLeaseError("The lease is over: it expired, or the sweep was cancelled.")


def complete_claim(
    session: Session,
    claim: Claim,
    outcomes: Sequence[JobOutcome],
    environment: Environment,
) -> int:
    """Writes the outcomes of a claim's jobs with their trials; returns how many were written.

    The first trials of a sweep decide which content its dataset has from then on.

    Raises:
        StaleLeaseError: the lease is over; nothing is written.
        DatasetMismatchError: earlier trials were measured on other images; nothing is written.
    """
    row = environment_row(environment)
    found = worker_queries.find_environment(session, row["fingerprint"], claim.sweep_id)
    if any(outcome.trials for outcome in outcomes):
        _check_dataset(session, claim, environment, found.dataset_hash)
    if not lease_queries.end_leases(session, [claim.token], "completed"):
        raise StaleLeaseError("The lease ended before its results came; they are dropped.")
    pairs = list(zip(claim.jobs, outcomes, strict=True))
    written = job_queries.complete_jobs(
        session,
        token=claim.token,
        environment_id=found.id or worker_queries.upsert_environment(session, row),
        jobs=[
            {
                "id": job.id,
                "status": outcome.status,
                "reason": outcome.reason,
                "error": outcome.error and storable(outcome.error),
            }
            for job, outcome in pairs
        ],
        trials=[_trial_row(job.id, trial) for job, outcome in pairs for trial in outcome.trials],
    )
    sweep_queries.update_finished_sweeps(session, claim.sweep_id)
    return len(written)


def _check_dataset(
    session: Session, claim: Claim, environment: Environment, pinned: str | None
) -> None:
    mine = environment.dataset_hash
    pinned = pinned or sweep_queries.pin_dataset(session, claim.sweep_id, mine, claim.token)
    if pinned is not None:
        check_dataset_hash(claim.sweep_id, environment.dataset, mine, pinned)


def check_dataset_hash(sweep_id: int, dataset: str, mine: str, pinned: str) -> None:
    """Returns when a worker's copy of a dataset is what the sweep's earlier trials used.

    Raises:
        DatasetMismatchError: it is not.
    """
    if mine != pinned:
        raise DatasetMismatchError(
            f"Dataset {dataset!r} here has content {mine[:12]}, but the trials of sweep {sweep_id} "
            f"were measured on {pinned[:12]}. Copy the same files to this worker's data folder, "
            "or start a new sweep."
        )


def has_completed(session: Session, token: uuid.UUID) -> bool:
    """Says whether the results under a lease have been written, for when a commit got no answer.

    Nobody but the worker that holds the lease can have written them.
    """
    return lease_queries.find_lease_outcome(session, token) == "completed"


def decline_group(session: Session, sweep_id: int, group: int) -> None:
    """Passes a hint on that its reader cannot serve.

    The group is hinted again soon, but after groups that had no hint yet: a sweep that nobody can
    serve does not keep others waiting.
    """
    group_queries.defer_hints(session, [(sweep_id, group)])


def release_claim(session: Session, claim: Claim) -> int:
    """Hands a claim's jobs back unharmed, their attempt unburnt; returns how many.

    Their group is hinted again at once.
    """
    if not lease_queries.end_leases(session, [claim.token], "released"):
        return 0
    released = job_queries.release_jobs(session, claim.token)
    group_queries.clear_hints(session, [(claim.sweep_id, claim.group)])
    return released


def fail_claim(session: Session, claim: Claim, *, error: str, max_attempts: int) -> int:
    """Hands a claim's jobs back with their attempt burnt; after the last one they have failed.

    Returns how many jobs were handed back.
    """
    if not lease_queries.end_leases(session, [claim.token], "failed"):
        return 0
    lost = job_queries.release_lost_jobs(
        session,
        [claim.token],
        outcome="failed",
        max_attempts=max_attempts,
        error=storable(error),
    )
    group_queries.clear_hints(session, [(claim.sweep_id, claim.group)])
    sweep_queries.update_finished_sweeps(session, claim.sweep_id)
    return lost


def environment_row(environment: Environment) -> dict[str, Any]:
    """Returns the columns of an environment, with the fingerprint that it is known by."""
    row = asdict(environment) | {"versions": json.dumps(environment.versions, sort_keys=True)}
    fingerprint = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
    return row | {"fingerprint": fingerprint}


def storable(message: str) -> str:
    """Returns a message without what Postgres cannot keep: zero bytes and halves of characters."""
    return message.replace("\0", "?").encode(errors="replace").decode()


def _trial_row(job_id: int, trial: TrialResult) -> dict[str, Any]:
    throughput = trial.throughput
    return {
        "job_id": job_id,
        "trial": trial.trial,
        "accuracy": trial.accuracy,
        "train_accuracy": trial.train_accuracy,
        "fit_s": trial.fit_s,
        "images_per_s": throughput and throughput.images_per_s,
        "images_per_s_spread": throughput and throughput.spread,
        "timing_runs": throughput and throughput.runs,
        "throughput_source": throughput and throughput.source,
        "weights_seed": trial.weights_seed,
        "correct_bits": trial.correct_bits.hex(),
    }
