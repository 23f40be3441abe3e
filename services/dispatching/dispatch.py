"""Sending hints up to a short backlog, and reclaiming jobs and trainings of lost workers."""

import random
from typing import Protocol

import structlog
from sqlalchemy.orm import Session

from shared.db.queries.dispatching import groups as hint_queries
from shared.db.queries.leasing import group_leases as group_queries
from shared.db.queries.leasing import leases as lease_queries
from shared.db.queries.leasing import training_leases as training_queries
from shared.db.queries.sweeps import sweeps as sweep_queries

log = structlog.get_logger(__name__)


class Hints(Protocol):
    """A queue that hints can be sent to; it may lose, repeat or delay them."""

    def __len__(self) -> int: ...

    def send(self, sweep_id: int, group: int) -> None: ...

    def send_training(self, training_id: int) -> None: ...


def send_hints(session: Session, hints: Hints, *, backlog: int, resend_s: float) -> int:
    """Fills the queue up to ``backlog`` hints; returns how many were sent.

    The mark on a group is written before its hint is sent and committed by the caller afterwards:
    a crash in between repeats a hint, and a lost hint is sent again after ``resend_s``. A lock lets
    one dispatcher at a time fill the queue. Trainings come first, but take at most half of the free
    places, so that they do not delay sweeps; an odd place goes to either at random, because in a
    queue that stays full it is the only one.
    """
    if not hint_queries.lock_dispatch(session):
        return 0
    room = backlog - len(hints)
    if room <= 0:
        return 0
    limit = (room + random.getrandbits(1)) // 2
    trainings = training_queries.mark_trainings_hinted(session, limit=limit, resend_s=resend_s)
    for training_id in trainings:
        hints.send_training(training_id)
    room -= len(trainings)
    groups = hint_queries.mark_groups_hinted(session, limit=room, resend_s=resend_s)
    for group in groups:
        hints.send(group.sweep_id, group.group_index)
    return len(trainings) + len(groups)


def reap_expired_leases(session: Session, *, max_attempts: int) -> int:
    """Makes the jobs of expired leases pending, or failed after their last attempt.

    Leases are locked before their expiry is judged, so a renewal or completion that comes first
    wins. Also completes sweeps that were locked when their last job ended. Trainings are treated
    likewise. Returns the number of jobs and trainings.
    """
    jobs = _take_back(session, max_attempts)
    sweep_queries.update_finished_sweeps(session)
    return jobs


def _take_back(session: Session, max_attempts: int) -> int:
    expired = lease_queries.lock_expired_leases(session)
    if not expired:
        return 0
    for lease in expired:
        log.warning(
            "lease_expired",
            sweep_id=lease.sweep_id, group=lease.group_index, lease=str(lease.token),
        )  # fmt: skip
    tokens = [lease.token for lease in expired]
    lease_queries.end_leases(session, tokens, "expired")
    error = "The worker vanished: its lease was not renewed in time."
    jobs = group_queries.release_lost_jobs(
        session, tokens, outcome="expired", max_attempts=max_attempts, error=error
    )
    trainings = training_queries.release_lost_trainings(
        session, tokens, max_attempts=max_attempts, error=error
    )
    groups = [(row.sweep_id, row.group_index) for row in expired if row.group_index is not None]
    hint_queries.clear_hints(session, groups)
    return jobs + trainings
