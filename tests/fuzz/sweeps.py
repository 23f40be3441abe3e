"""A database with sweeps of every kind: two that are over, and some that requests may change."""

import uuid
from dataclasses import replace

import numpy as np
from sqlalchemy.orm import Session

from services.calibration.references import note_reference_run
from services.leasing.group_leases import fail_claim
from services.leasing.training_leases import (
    append_epoch,
    begin_training,
    claim_training,
    complete_training,
)
from services.trainings.creation import create_trainings
from shared.domain.measurements import Conditions, DeviceReading, TrialResult
from shared.domain.recipe import EpochResult, Recipe
from shared.domain.reference_set import NETWORKS
from shared.domain.results.selection import ByRank
from tests.integration.scenario import (
    GROUPS,
    add_sweep,
    add_worker,
    claim,
    claimed,
    complete,
    environment,
    rejection,
    success,
    trial,
)

UNTOUCHED, OPEN = (1, 2), (3, 4, 5, 6)
JOBS = 72
TRAINED, TRAININGS = 5, 5 + len(OPEN)  # number in the first sweep, done; one of each open one
IMAGES = 500


def answered(number: int, accuracy: float, images_per_s: float) -> TrialResult:
    """Returns a trial with an answer to each of the protocol's images."""
    right = np.arange(IMAGES) < round(accuracy * IMAGES)
    bits = np.packbits(np.roll(right, number)).tobytes()
    return replace(trial(number, accuracy, images_per_s), correct_bits=bits)


def fill(session: Session) -> None:
    """Adds six sweeps with results, the first two complete, and trainings, and commits."""
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
    train(session)
    time_references(session)
    session.commit()


def time_references(session: Session) -> None:
    """Adds two runs of the references on a processor."""
    worker_id = add_worker(session)
    for speed in (100.0, 99.0):
        note_reference_run(
            session,
            worker_id,
            device_class="cpu",
            device="a processor",
            versions={"torch": "2"},
            images_per_s=[speed] * len(NETWORKS),
            conditions=Conditions("box", None, None, DeviceReading(), DeviceReading(load=1.0)),
        )


def train(session: Session) -> None:
    """Adds trainings: some that are over, with curves, and one that waits in each open sweep."""
    recipe = Recipe(epochs=2)
    worker_id = add_worker(session)
    best = ByRank(by="rank", count=TRAINED)
    for row in create_trainings(session, UNTOUCHED[0], best, [recipe]).trainings:
        token = uuid.uuid4()
        assert claim_training(session, row.id, worker_id=worker_id, token=token, lease_s=60)
        begin_training(session, token, [], environment(), parameters=69_322, note=None)
        for epoch in (1, 2):
            append_epoch(session, token, EpochResult(
                epoch, 2.0 / epoch, 0.2 * epoch, 2.1 / epoch, 0.1 * epoch + 0.01 * row.id,
                recipe.learning_rate, 1.5, 1400.0,
            ))  # fmt: skip
        complete_training(session, token, f"training-{row.id}.safetensors")
    for sweep_id in OPEN:
        create_trainings(session, sweep_id, ByRank(by="rank", count=1), [recipe])
