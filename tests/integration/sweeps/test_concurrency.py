"""Workers, dispatchers and users all at once: no circle of waiting, no count gone wrong."""

import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.dispatching.dispatch import reap_expired_leases, send_hints
from services.leasing.group_leases import Claim, fail_claim, release_claim, renew_lease
from services.sweeps.control import cancel_sweep, pause_sweep, resume_sweep
from services.sweeps.creation import create_sweep
from services.sweeps.reading import get_sweep
from shared.domain.errors import IllegalTransitionError, StaleLeaseError
from shared.messaging.queue import HintQueue
from tests.conftest import SessionFactory
from tests.integration.scenario import (
    GROUPS,
    add_sweep,
    add_worker,
    assert_counts_add_up,
    claim,
    complete,
    expire,
    small_protocol,
    small_space,
)

THREADS = 6
STEPS = 40


class Actor:
    """One process of the cluster, or one user, that does things at random."""

    def __init__(
        self, session: Session, hints: HintQueue, worker_id: uuid.UUID, sweeps: list[int], seed: int
    ) -> None:
        self.session, self.hints, self.worker_id, self.sweeps = session, hints, worker_id, sweeps
        self.chance = random.Random(seed)

    def act(self) -> None:
        roles = [self.work, self.work, self.work, self.dispatch, self.control, self.look]
        try:
            self.chance.choice(roles)()
            self.session.commit()
        except (StaleLeaseError, IllegalTransitionError):
            self.session.rollback()

    def work(self) -> None:
        group, limit = self.chance.randrange(GROUPS), self.chance.choice([1, 2, 64])
        sweep_id = self.chance.choice(self.sweeps)
        held = claim(self.session, sweep_id, group, worker_id=self.worker_id, limit=limit)
        if held is not None:
            self.end(held)

    def end(self, held: Claim) -> None:
        match self.chance.randrange(5):
            case 0:
                release_claim(self.session, held)
            case 1:
                fail_claim(self.session, held, error="broke", max_attempts=3)
            case 2:
                expire(self.session, held)
            case _:
                renew_lease(self.session, held.token, 60)
                self.session.commit()
                complete(self.session, held)

    def dispatch(self) -> None:
        reap_expired_leases(self.session, max_attempts=3)
        self.session.commit()
        send_hints(self.session, self.hints, backlog=10_000, resend_s=0.01)

    def control(self) -> None:
        change = self.chance.choice([pause_sweep, resume_sweep, resume_sweep, cancel_sweep])
        if change is not cancel_sweep or self.chance.random() < 0.2:
            change(self.session, self.chance.choice(self.sweeps))

    def look(self) -> None:
        create_sweep(self.session, small_space(), small_protocol())
        for sweep_id in self.sweeps:
            state = get_sweep(self.session, sweep_id)
            assert sum(state.counts.values()) == state.sweep.total


@pytest.mark.parametrize("seed", range(3))
def test_everything_at_once_neither_deadlocks_nor_miscounts(
    seed: int, sessions: SessionFactory, session: Session, hints: HintQueue
) -> None:
    sweeps, worker_id = [add_sweep(session) for _ in range(3)], add_worker(session)
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> None:
        with sessions() as own:
            actor = Actor(own, hints, worker_id, sweeps, seed * THREADS + number)
            barrier.wait()
            for _ in range(STEPS):
                actor.act()

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(run, number) for number in range(THREADS)]:
            done.result()  # a deadlock or a lock timeout is an error here
    session.execute(text("UPDATE leases SET expires_at = now() WHERE ended_at IS NULL"))
    reap_expired_leases(session, max_attempts=3)
    session.commit()
    for sweep_id in sweeps:
        counts = assert_counts_add_up(session, sweep_id)
        over = not counts.keys() & {"pending", "running"}
        status = get_sweep(session, sweep_id).sweep.status
        assert over == (status in ("completed", "cancelled"))
