"""A database with sweeps of every kind: two that are over, and some that requests may change."""

from dataclasses import replace

import numpy as np
from sqlalchemy.orm import Session

from services.leases import fail_claim
from shared.results import TrialResult
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

UNTOUCHED, OPEN = (1, 2), (3, 4, 5, 6)
JOBS = 72
IMAGES = 500


def answered(number: int, accuracy: float, images_per_s: float) -> TrialResult:
    """Returns a trial with an answer to each of the protocol's images."""
    right = np.arange(IMAGES) < round(accuracy * IMAGES)
    bits = np.packbits(np.roll(right, number)).tobytes()
    return replace(trial(number, accuracy, images_per_s), correct_bits=bits)


def fill(session: Session) -> None:
    """Adds six sweeps with results, the first two complete, and commits."""
    missed = replace(rejection(), trials=(answered(0, 0.02, 90.0),))
    for _ in (*UNTOUCHED, *OPEN):
        sweep_id = add_sweep(session)
        for group in range(GROUPS - (sweep_id in OPEN)):
            held = claimed(session, sweep_id, group)
            outcomes = [
                success([answered(n, 0.1 * group + 0.01 * i, 100.0 + i) for n in job.trials])
                for i, job in enumerate(held.jobs)
            ]
            complete(session, held, [*outcomes[:-1], missed])
    fail_claim(session, claimed(session, OPEN[0], GROUPS - 1), error="broke", max_attempts=1)
    claim(session, OPEN[1], GROUPS - 1, worker_id=add_worker(session))
    session.commit()
