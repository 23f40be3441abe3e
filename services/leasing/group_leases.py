"""The jobs of a group under a lease: claim, renew, complete, release, fail."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from services.leasing.datasets import check_dataset_hash
from services.leasing.environments import environment_row, storable
from shared.db.queries.dispatching import groups as hint_queries
from shared.db.queries.leasing import datasets as dataset_queries
from shared.db.queries.leasing import environments as environment_queries
from shared.db.queries.leasing import group_leases as group_queries
from shared.db.queries.leasing import leases as lease_queries
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.architecture import Architecture
from shared.domain.errors import StaleLeaseError
from shared.domain.measurements import Environment, JobOutcome, TrialResult
from shared.domain.protocol import Protocol


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job to evaluate: its architecture and the trials that it still needs."""

    id: int
    architecture: Architecture
    trials: range
    timed: bool = False  # whether the worker need not time it


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one group, held by one worker until the lease ends."""

    token: uuid.UUID
    sweep_id: int
    group: int
    jobs: tuple[ClaimedJob, ...]
    leaves_some: bool = False  # whether more jobs of the group were pending


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a worker must be able to do for a sweep."""

    protocol: Protocol
    dataset_hash: str | None  # content of its images; None before its first trials


def find_requirements(session: Session, sweep_id: int) -> Requirements | None:
    """Returns what a worker must be able to do for a sweep; None unless there is one that runs."""
    row = group_queries.find_requirements(session, sweep_id)
    if row is None:
        return None
    return Requirements(Protocol.model_validate(row.protocol), row.dataset_hash)


def claim_group(
    session: Session,
    *,
    sweep_id: int,
    group: int,
    worker_id: uuid.UUID,
    lease_s: float,
    limit: int,
    times: bool = True,
    can_time: bool = True,
    token: uuid.UUID | None = None,
) -> Claim | None:
    """Leases pending jobs of a group; None if none is pending or the sweep is not running.

    Args:
        times: whether the worker times every network; networks that lack only a timing are left
            out without it.
        can_time: whether it times those that its device model is asked to.
        token: the lease's token, for callers that must know it even if no answer comes.
    """
    token = token or uuid.uuid4()
    jobs = group_queries.claim_jobs(
        session,
        sweep_id=sweep_id,
        group=group,
        worker_id=worker_id,
        token=token,
        lease_s=lease_s,
        limit=limit,
        times=times,
        can_time=can_time,
    )
    if not jobs:
        return None
    claimed = tuple(
        ClaimedJob(job.id, job.architecture, range(job.trials_done, job.trials_target), job.timed)
        for job in jobs
    )
    return Claim(token, sweep_id, group, claimed, jobs[0].group_pending > len(jobs))


def renew_lease(session: Session, token: uuid.UUID, lease_s: float) -> None:
    """Extends a lease to ``lease_s`` seconds from now by the database's clock.

    Raises:
        StaleLeaseError: the lease has ended; its results would be refused.
    """
    if not lease_queries.renew_lease(session, token, lease_s):
        raise StaleLeaseError("The lease is over: it expired, or the sweep was cancelled.")


def complete_claim(
    session: Session,
    claim: Claim,
    outcomes: Sequence[JobOutcome],
    environment: Environment,
) -> int:
    """Writes the outcomes of a claim's jobs with their trials; returns the number written.

    The first trials of a sweep pin the content of its dataset. A network that a device model must
    still time is pending again, and a group that may have such networks is due for a hint.

    Raises:
        StaleLeaseError: the lease has ended; nothing is written.
        DatasetMismatchError: earlier trials used other images; nothing is written.
    """
    row = environment_row(environment)
    known = environment_queries.find_environment(session, row["fingerprint"], claim.sweep_id)
    if any(outcome.trials for outcome in outcomes):
        _check_dataset(session, claim, environment, known.dataset_hash)
    if not lease_queries.end_leases(session, [claim.token], "completed"):
        raise StaleLeaseError("The lease ended before its results came; they are dropped.")
    group_queries.lock_held_jobs(session, claim.token)
    pairs = list(zip(claim.jobs, outcomes, strict=True))
    written = group_queries.complete_jobs(
        session,
        token=claim.token,
        environment_id=known.id or environment_queries.upsert_environment(session, row),
        device=environment.device,
        timing_model=known.timing_model,
        jobs=[
            {
                "id": job.id,
                "status": outcome.status,
                "reason": outcome.reason,
                "error": outcome.error and storable(outcome.error),
                "throttled": outcome.throttled,
            }
            for job, outcome in pairs
        ],
        trials=[_trial_row(job.id, trial) for job, outcome in pairs for trial in outcome.trials],
        timings=[row for job, outcome in pairs for row in _timing_rows(job.id, outcome)],
    )
    throttled = any(outcome.throttled for outcome in outcomes)
    if throttled or known.timing_model is not None or known.wants_timings:
        hint_queries.defer_hints(session, [(claim.sweep_id, claim.group)])
    sweep_queries.update_finished_sweeps(session, claim.sweep_id)
    return len(written)


def _check_dataset(
    session: Session, claim: Claim, environment: Environment, pinned: str | None
) -> None:
    mine = environment.dataset_hash
    pinned = pinned or dataset_queries.pin_dataset(session, claim.sweep_id, mine, claim.token)
    if pinned is not None:
        check_dataset_hash(claim.sweep_id, environment.dataset, mine, pinned)


def has_completed(session: Session, token: uuid.UUID) -> bool:
    """Returns whether a lease's results were written, for callers whose commit got no answer.

    Only the worker that holds the lease can have written them.
    """
    return lease_queries.find_lease_outcome(session, token) == "completed"


def awaited_models(session: Session, sweep_id: int, group: int) -> list[str | None]:
    """Returns the device models that a group's networks with all trials wait to be timed on.

    None among them stands for any model; empty where nothing waits, or the sweep does not run.
    """
    return group_queries.select_awaited_models(session, sweep_id, group)


def decline_group(session: Session, sweep_id: int, group: int) -> None:
    """Defers a group that this worker cannot serve.

    It is due for a hint at once; the dispatcher limits the hints for sweeps that workers have
    problems with, so that they do not delay others.
    """
    hint_queries.defer_hints(session, [(sweep_id, group)])


def release_claim(session: Session, claim: Claim) -> int:
    """Releases a claim's jobs, consuming no attempt; returns their number.

    Their group is hinted again at once.
    """
    if not lease_queries.end_leases(session, [claim.token], "released"):
        return 0
    released = group_queries.release_jobs(session, claim.token)
    hint_queries.clear_hints(session, [(claim.sweep_id, claim.group)])
    return released


def fail_claim(session: Session, claim: Claim, *, error: str, max_attempts: int) -> int:
    """Returns a claim's jobs to the queue, consuming an attempt; after the last one they fail.

    Returns the number of jobs.
    """
    if not lease_queries.end_leases(session, [claim.token], "failed"):
        return 0
    lost = group_queries.release_lost_jobs(
        session,
        [claim.token],
        outcome="failed",
        max_attempts=max_attempts,
        error=storable(error),
    )
    hint_queries.clear_hints(session, [(claim.sweep_id, claim.group)])
    sweep_queries.update_finished_sweeps(session, claim.sweep_id)
    return lost


def _trial_row(job_id: int, trial: TrialResult) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "trial": trial.trial,
        "accuracy": trial.accuracy,
        "train_accuracy": trial.train_accuracy,
        "fit_s": trial.fit_s,
        "weights_seed": trial.weights_seed,
        "correct_bits": trial.correct_bits.hex(),
    }


def _timing_rows(job_id: int, outcome: JobOutcome) -> Iterator[dict[str, Any]]:
    for trial in outcome.trials:
        if trial.throughput:
            yield {"job_id": job_id, "trial": trial.trial, **asdict(trial.throughput)}
    if outcome.timing:
        yield {"job_id": job_id, "trial": None, **asdict(outcome.timing)}
