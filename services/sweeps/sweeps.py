"""Previewing, creating, reading, pausing, resuming, cancelling, retrying, extending sweeps."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add

import numpy as np
from sqlalchemy.orm import Session

from services.leaderboard.page_tokens import Page, read_page_by_id
from services.sweeps.rate import SAMPLE, Span, estimate_rate
from shared.db.models import Sweep
from shared.db.queries.dispatching import groups as group_queries
from shared.db.queries.leasing import leases as lease_queries
from shared.db.queries.live import changes as live_queries
from shared.db.queries.sweeps import jobs as job_queries
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.architecture import LayerConfig
from shared.domain.errors import (
    ConflictError,
    IdempotencyKeyReusedError,
    IllegalTransitionError,
    InvalidInputError,
    SweepNotFoundError,
)
from shared.domain.measurements import Reason
from shared.domain.protocol import Order, Protocol
from shared.domain.space import SearchSpace, SpaceTable
from shared.domain.status import (
    UNFINISHED_JOB_STATUSES,
    JobStatus,
    SweepStatus,
    check_sweep_transition,
)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a sweep would hold, before anything is created."""

    total: int
    valid: int
    invalid: dict[Reason, int]
    groups: int
    flops: int  # one forward pass of every valid network, per image
    flops_per_trial: int  # the same over all images of the protocol


@dataclass(frozen=True, slots=True)
class SweepState:
    """A sweep with its jobs by state and how fast it moves."""

    sweep: Sweep
    counts: dict[JobStatus, int]
    jobs_per_s: float | None
    eta_s: float | None


def preview_sweep(space: SearchSpace, protocol: Protocol) -> Preview:
    """Returns totals of a space under a protocol by arithmetic alone; nothing is stored."""
    invalid = dict.fromkeys(
        (Reason.INVALID_SHAPE, Reason.RATIO_ABOVE_MAXIMUM, Reason.RATIO_BELOW_MINIMUM), 0
    )
    flops = 0
    for table in space.tables(protocol.input_shape):
        valid = table.fits.copy()
        for reason, rows in table.reasons(
            protocol.gates.min_ratio, protocol.gates.max_ratio
        ).items():
            invalid[reason] += int(rows.sum())
            valid &= ~rows
        flops += sum(table.flops[valid].tolist())  # Python's integers do not overflow
    images = protocol.train_images + protocol.validation_images
    return Preview(
        total=len(space),
        valid=len(space) - sum(invalid.values()),
        invalid=invalid,
        groups=space.groups,
        flops=flops,
        flops_per_trial=flops * images,
    )


def create_sweep(
    session: Session,
    space: SearchSpace,
    protocol: Protocol,
    name: str | None = None,
    *,
    idempotency_key: str | None = None,
) -> Sweep:
    """Adds a sweep with one pending job per architecture, all of them or none.

    The jobs are the outbox: nothing is sent to any queue here. Under an idempotency key a sweep is
    created once: whoever asks for the same again, at once or later, gets that sweep.

    Raises:
        IdempotencyKeyReusedError: the key was used for a sweep that is not this one.
    """
    space_json, protocol_json = space.model_dump(mode="json"), protocol.model_dump(mode="json")
    request_hash = _fingerprint([name, space_json, protocol_json])
    sweep = sweep_queries.insert_sweep(
        session,
        name or f"{protocol.dataset} {len(space):,}",
        space_json,
        protocol_json,
        len(space),
        idempotency_key=idempotency_key,
        request_hash=request_hash if idempotency_key else None,
    )
    if sweep is None:
        assert idempotency_key is not None
        return _created_before(session, idempotency_key, request_hash)
    sweep_queries.insert_groups(session, sweep.id, _positions(space.groups, protocol))
    for table in space.tables(protocol.input_shape):
        job_queries.insert_jobs(session, _format_jobs(sweep.id, protocol.trials, table))
    return sweep


def _fingerprint(request: object) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _created_before(session: Session, idempotency_key: str, request_hash: str) -> Sweep:
    sweep = sweep_queries.find_sweep_by_key(session, idempotency_key)
    assert sweep is not None, "sweeps are never deleted"
    if sweep.request_hash != request_hash:
        raise IdempotencyKeyReusedError(
            f"This Idempotency-Key created sweep {sweep.id} from another body. "
            "Use a new key for a new sweep.",
            field="Idempotency-Key",
        )
    return sweep


def _positions(groups: int, protocol: Protocol) -> list[int]:
    if protocol.order is Order.GRID:
        return list(range(groups))
    return list(np.random.default_rng(protocol.seed).permutation(groups).tolist())


def _format_jobs(sweep_id: int, trials: int, table: SpaceTable) -> Iterator[str]:
    columns = (table.index, table.group, table.fits, table.ratio, table.parameters, table.flops)
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    ends = {layer: [f"{value}}}" for value in layer] for layer in table.options[-1]}
    group_first, starts = None, []
    for (first, last, digest), (index, group, fits, ratio, parameters, flops) in zip(
        table.rows(), numbers, strict=True
    ):
        if first is not group_first:
            group_first, starts = first, _format_starts(first)
        layers = "\t".join(map(add, starts, ends[last]))
        measures = f"{ratio}\t{parameters}\t{flops}" if fits else "\\N\t\\N\t\\N"
        yield (
            f"{sweep_id}\t{index}\t{group}\t\\\\x{digest.hex()}\t{layers}\t{measures}\t{trials}\n"
        )


def _format_starts(layers: Sequence[LayerConfig]) -> list[str]:
    """Returns, per field of a layer, how its array begins: all values but the last layer's."""
    return [
        "{" + "".join(f"{layer[field]}," for layer in layers)
        for field in range(len(LayerConfig._fields))
    ]


def get_sweep(session: Session, sweep_id: int) -> SweepState:
    """Returns a sweep, its jobs by state, its rate and when it will be through.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    found = sweep_queries.find_sweep(session, sweep_id)
    if found is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    sweep, counts = found
    rate, eta_s = None, None
    if sweep.status == SweepStatus.RUNNING:
        rate = _rate(session, sweep_id)
        unfinished = sum(counts[status] for status in UNFINISHED_JOB_STATUSES)
        eta_s = unfinished / rate if rate else None
    return SweepState(sweep, counts, rate, eta_s)


def _rate(session: Session, sweep_id: int) -> float | None:
    now, rows = live_queries.select_recent_leases(session, sweep_id, SAMPLE)
    spans = [
        Span(row.jobs, row.claimed_at, row.ended_at, completed=row.outcome == "completed")
        for row in rows
    ]
    return estimate_rate(spans, now)


def list_sweeps(
    session: Session, *, page_size: int = 50, page_token: str | None = None
) -> Page[SweepState]:
    """Returns a page of sweeps with their jobs by state, newest first; without their rates.

    Raises:
        InvalidPageTokenError: the token is damaged or comes from another listing.
    """

    def select(before_id: int | None, limit: int) -> list[SweepState]:
        rows = sweep_queries.select_sweeps(session, before_id=before_id, limit=limit)
        return [SweepState(sweep, counts, None, None) for sweep, counts in rows]

    return read_page_by_id(["sweeps"], page_token, page_size, select, lambda state: state.sweep.id)


def pause_sweep(session: Session, sweep_id: int) -> None:
    """Stops new claims; groups that run now finish.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep is over.
    """
    _change_status(session, sweep_id, SweepStatus.PAUSED)


def resume_sweep(session: Session, sweep_id: int) -> None:
    """Lets a paused sweep go on.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep is over.
    """
    if _locked(session, sweep_id).status == SweepStatus.COMPLETED:
        raise IllegalTransitionError(
            f"Sweep {sweep_id} has completed: there is nothing to resume. "
            "Retry its failed jobs, or extend it to more trials."
        )
    _change_status(session, sweep_id, SweepStatus.RUNNING)


def cancel_sweep(session: Session, sweep_id: int) -> int:
    """Cancels every unfinished job for good; returns how many. Late results are refused.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep has completed.
    """
    _change_status(session, sweep_id, SweepStatus.CANCELLED)
    lease_queries.cancel_leases(session, sweep_id)
    return job_queries.cancel_jobs(session, sweep_id)


def retry_sweep(session: Session, sweep_id: int) -> int:
    """Hands a sweep's failed jobs out again, attempts counted anew; returns how many.

    The record of their earlier attempts stays. A completed sweep runs again; a paused one stays
    paused. Where nothing has failed, nothing changes.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep was cancelled.
    """
    _check_open_to_more(_locked(session, sweep_id))
    retried = job_queries.retry_failed_jobs(session, sweep_id)
    if retried:
        _run_again(session, sweep_id)
    return retried


def extend_sweep(session: Session, sweep_id: int, *, trials: int, top: int | None = None) -> int:
    """Raises a sweep's trials per job to ``trials``; returns for how many jobs it did.

    Without ``top`` that is every job that completed or still waits, with it the ``top`` most
    accurate of the completed. Trials that are there stay and count; a completed sweep runs again.
    Jobs that were rejected stay rejected, and those that run at this moment keep their number:
    extending once more later reaches them.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep was cancelled.
        InvalidInputError: the jobs have as many trials already.
        ConflictError: no job has completed yet that could lead.
    """
    sweep, counts = _locked(session, sweep_id), get_sweep(session, sweep_id).counts
    _check_open_to_more(sweep)
    if top is not None and not counts[JobStatus.COMPLETED]:
        raise ConflictError(f"Sweep {sweep_id} has no completed job yet, so nobody leads.")
    if top is None:
        extended = job_queries.extend_jobs(session, sweep_id, trials)
    else:
        extended = job_queries.extend_leaders(session, sweep_id, trials, top)
    if not extended:
        raise InvalidInputError(
            f"trials: no job of sweep {sweep_id} that could be extended has fewer than {trials} "
            f"trials; it began with {sweep.protocol['trials']}. Ask for more.",
            field="trials",
        )
    _run_again(session, sweep_id)
    return extended


def _check_open_to_more(sweep: Sweep) -> None:
    if sweep.status == SweepStatus.CANCELLED:
        raise IllegalTransitionError(f"Sweep {sweep.id} was cancelled for good.")


def _run_again(session: Session, sweep_id: int) -> None:
    """Lets a sweep that got pending jobs run unless it is paused, its groups hinted at once."""
    group_queries.clear_hints_of_sweep(session, sweep_id)
    if _locked(session, sweep_id).status == SweepStatus.COMPLETED:
        _change_status(session, sweep_id, SweepStatus.RUNNING)


def _locked(session: Session, sweep_id: int) -> Sweep:
    sweep = sweep_queries.lock_sweep(session, sweep_id)
    if sweep is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    return sweep


def _change_status(session: Session, sweep_id: int, wanted: SweepStatus) -> None:
    current = SweepStatus(_locked(session, sweep_id).status)
    check_sweep_transition(current, wanted)
    if current is not wanted:
        sweep_queries.update_sweep_status(session, sweep_id, wanted)
