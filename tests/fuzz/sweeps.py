"""A database with sweeps of every kind: one that is over, and some that requests may change."""

from sqlalchemy.orm import Session

from services.leases import fail_claim
from tests.integration.scenario import (
    GROUPS,
    add_sweep,
    add_worker,
    claim,
    claimed,
    complete,
    rejection,
    success,
    trial,
)

UNTOUCHED, OPEN = 1, (2, 3, 4, 5)
JOBS = 60


def fill(session: Session) -> None:
    """Adds five sweeps with results, the first complete, and commits."""
    for _ in (UNTOUCHED, *OPEN):
        sweep_id = add_sweep(session)
        for group in range(GROUPS - (sweep_id != UNTOUCHED)):
            held = claimed(session, sweep_id, group)
            outcomes = [
                success([trial(n, 0.1 * group + 0.01 * i, 100.0 + i) for n in job.trials])
                for i, job in enumerate(held.jobs)
            ]
            complete(session, held, [*outcomes[:-1], rejection()])
    fail_claim(session, claimed(session, OPEN[0], GROUPS - 1), error="broke", max_attempts=1)
    claim(session, OPEN[1], GROUPS - 1, worker_id=add_worker(session))
    session.commit()
