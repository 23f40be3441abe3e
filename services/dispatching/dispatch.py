"""Sending hints up to a short backlog, and reclaiming jobs and trainings of lost workers."""

import random
from collections.abc import Sequence
from typing import Protocol

import structlog
from sqlalchemy.orm import Session

from services.monitoring.workers import SEEN_WITHIN_S
from shared.db.queries.dispatching import groups as hint_queries
from shared.db.queries.dispatching.groups import HintedGroup
from shared.db.queries.leasing import group_leases as group_queries
from shared.db.queries.leasing import leases as lease_queries
from shared.db.queries.leasing import training_leases as training_queries
from shared.db.queries.monitoring import worker_problems as problem_queries
from shared.db.queries.monitoring.worker_problems import HinderedSweep
from shared.db.queries.sweeps import sweeps as sweep_queries

log = structlog.get_logger(__name__)

PASS_ON_S = 0.25  # interval of the hints for a sweep that only some of the workers can serve


class Hints(Protocol):
    """A queue that hints can be sent to; it may lose, repeat or delay them."""

    def __len__(self) -> int: ...

    def send(self, sweep_id: int, group: int) -> None: ...

    def send_training(self, training_id: int) -> None: ...


def send_hints(session: Session, hints: Hints, *, backlog: int, resend_s: float) -> int:
    """Fills the queue up to ``backlog`` hints; returns how many were sent.

    The mark on a group is written before its hint is sent and committed by the caller afterwards:
    a crash in between repeats a hint, and a lost hint is sent again after ``resend_s``. A lock lets
    one dispatcher at a time fill the queue. Trainings come first, then sweeps that some workers
    cannot serve; each takes at most half of the places that are free, so that they do not delay
    other sweeps.
    """
    if not hint_queries.lock_dispatch(session):
        return 0
    room = backlog - len(hints)
    if room <= 0:
        return 0
    trainings = training_queries.mark_trainings_hinted(
        session, limit=_half(room), resend_s=resend_s
    )
    for training_id in trainings:
        hints.send_training(training_id)
    groups = _mark_groups(session, room - len(trainings), resend_s)
    for group in groups:
        hints.send(group.sweep_id, group.group_index)
    return len(trainings) + len(groups)


def _half(room: int) -> int:
    """Returns half of the free places; an odd one is included at random.

    In a queue that stays full it is the only one.
    """
    return (room + random.getrandbits(1)) // 2


def _mark_groups(session: Session, room: int, resend_s: float) -> list[HintedGroup]:
    """Marks up to ``room`` groups as hinted and returns them."""
    hindered = problem_queries.select_hindered_sweeps(session, seen_within_s=SEEN_WITHIN_S)
    groups = _mark_hindered(session, hindered, _half(room), resend_s) if hindered else []
    return groups + hint_queries.mark_groups_hinted(
        session,
        limit=room - len(groups),
        resend_s=resend_s,
        without=[sweep.sweep_id for sweep in hindered],
    )


def _mark_hindered(
    session: Session, hindered: Sequence[HinderedSweep], room: int, resend_s: float
) -> list[HintedGroup]:
    """Marks groups of sweeps that some workers cannot serve, at a rate that costs little.

    A sweep that no worker can serve gets one hint for each of them every ``resend_s``, so that they
    look again. Where other workers can serve it, enough hints are sent every ``PASS_ON_S`` for all
    workers that wait for one: an unable worker passes its hint on at once.
    """
    groups: list[HintedGroup] = []
    due = [s for s in hindered if s.hinted_s > (PASS_ON_S if s.able else resend_s)]
    for sweep in due:
        limit = min(sweep.able + sweep.unable, room - len(groups))
        groups += hint_queries.mark_groups_of_sweep_hinted(
            session, sweep.sweep_id, limit=limit, resend_s=resend_s
        )
    if groups:
        hinted = sorted({group.sweep_id for group in groups})
        problem_queries.mark_hindered_sweeps_hinted(session, hinted)
    return groups


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
