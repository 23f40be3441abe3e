"""Previewing and creating sweeps."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from shared.db.models import Sweep
from shared.db.queries.sweeps import seeding as seeding_queries
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.arrays import IntArray
from shared.domain.errors import IdempotencyKeyReusedError
from shared.domain.measurements import Reason
from shared.domain.protocol import Order, Protocol
from shared.domain.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Preview:
    """What a sweep would contain."""

    total: int
    valid: int
    invalid: dict[Reason, int]
    equivalent: int  # valid networks that compute the same as an earlier valid one
    groups: int
    flops: int  # one forward pass of every valid network, per image
    flops_per_trial: int  # the same over all images of the protocol


def preview_sweep(space: SearchSpace, protocol: Protocol) -> Preview:
    """Returns totals of a space under a protocol by arithmetic; stores nothing."""
    invalid = dict.fromkeys(
        (Reason.INVALID_SHAPE, Reason.RATIO_ABOVE_MAXIMUM, Reason.RATIO_BELOW_MINIMUM), 0
    )
    flops, equivalent = 0, 0
    for table in space.tables(protocol.input_shape):
        valid = table.fits.copy()
        for reason, rows in table.reasons(
            protocol.gates.min_ratio, protocol.gates.max_ratio
        ).items():
            invalid[reason] += int(rows.sum())
            valid &= ~rows
        equivalent += int((valid & space.repeats(table)).sum())
        flops += _exact_sum(table.flops[valid])
    images = protocol.train_images + protocol.validation_images
    return Preview(
        total=len(space),
        valid=len(space) - sum(invalid.values()),
        invalid=invalid,
        equivalent=equivalent,
        groups=space.groups,
        flops=flops,
        flops_per_trial=flops * images,
    )


def _exact_sum(values: IntArray) -> int:
    """Returns the sum of at most 65,536 numbers; halves of 32 bits cannot overflow."""
    low = int((values & 0xFFFF_FFFF).sum())
    return (int((values >> 32).sum()) << 32) + low


def create_sweep(
    session: Session,
    space: SearchSpace,
    protocol: Protocol,
    name: str | None = None,
    *,
    idempotency_key: str | None = None,
    idempotency_scope: str = "",
) -> Sweep:
    """Adds a sweep with one pending job per architecture, all of them or none.

    The jobs are the outbox: nothing is sent to a queue here. With an idempotency key the sweep is
    created once in its scope: the same request with the same key returns the existing sweep. Keys
    of the empty scope (API keys off, older versions) count in every scope.

    Raises:
        IdempotencyKeyReusedError: the key was used with another request.
    """
    space_json, protocol_json = space.model_dump(mode="json"), protocol.model_dump(mode="json")
    request_hash = _fingerprint([name, space_json, protocol_json])
    if idempotency_key and (older := sweep_queries.find_sweep_by_key(session, idempotency_key, "")):
        return _repeated(older, request_hash)
    sweep = sweep_queries.insert_sweep(
        session,
        name or f"{protocol.dataset} {len(space):,}",
        space_json,
        protocol_json,
        len(space),
        idempotency_key=idempotency_key,
        idempotency_scope=idempotency_scope if idempotency_key else "",
        request_hash=request_hash if idempotency_key else None,
    )
    if sweep is None:
        assert idempotency_key is not None
        sweep = sweep_queries.find_sweep_by_key(session, idempotency_key, idempotency_scope)
        assert sweep is not None, "sweeps are never deleted"
        return _repeated(sweep, request_hash)
    _add_jobs(session, sweep.id, space, protocol)
    return sweep


def _add_jobs(session: Session, sweep_id: int, space: SearchSpace, protocol: Protocol) -> None:
    seeding_queries.insert_groups(session, sweep_id, _positions(space.groups, protocol))
    for table in space.tables(protocol.input_shape):
        seeding_queries.insert_jobs(session, sweep_id, protocol.trials, table)


def _fingerprint(request: object) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _repeated(sweep: Sweep, request_hash: str) -> Sweep:
    """Returns the sweep of an idempotency key if it came from the same request."""
    if sweep.request_hash != request_hash:
        raise IdempotencyKeyReusedError(
            f"This Idempotency-Key created sweep {sweep.id} from another body. "
            "Use a new key for a new sweep.",
            field="Idempotency-Key",
        )
    return sweep


def _positions(groups: int, protocol: Protocol) -> list[int]:
    """Returns the position of each group in the order of evaluation."""
    if protocol.order is Order.GRID:
        return list(range(groups))
    return list(np.random.default_rng(protocol.seed).permutation(groups).tolist())
