"""Runs of the reference networks, and what follows where a device changed its speed."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.calibration import speed_change
from shared.db.queries.calibration import references as reference_queries
from shared.domain.measurements import Conditions
from shared.domain.reference_set import MAX_DRIFT, VERSION

MOST_REPEATS = 2  # timings of a network on one unit that drift makes anew


@dataclass(frozen=True, slots=True)
class Drift:
    """What a run of the references showed."""

    speed_change: float | None  # since the run before; None for the first of a process
    invalidated: int  # timings in between that no longer count


def note_reference_run(
    session: Session,
    worker_id: uuid.UUID,
    *,
    device_class: str,
    device: str,
    versions: dict[str, str],
    images_per_s: Sequence[float],
    conditions: Conditions,
) -> Drift:
    """Records a run of the references, and compares it with the one before of the same process.

    Where a GPU's speed changed by more than ``MAX_DRIFT``, the timings in between lose their
    validity and are wanted again, but at most ``MOST_REPEATS`` times each. A processor, which other
    programs use, changes its speed all the time: that is recorded, and its timings stay.
    """
    before = reference_queries.find_run_before(session, worker_id, VERSION)
    speeds = np.array(images_per_s)
    change = speed_change(np.array(before.images_per_s), speeds) if before else None
    run_id = reference_queries.insert_run(
        session,
        worker_id=worker_id,
        unit=conditions.unit,
        device_class=device_class,
        device=device,
        versions=json.dumps(versions, sort_keys=True),
        version=VERSION,
        images_per_s=list(images_per_s),
        conditions=json.dumps(asdict(conditions)),
        speed_change=change,
    )
    if change is None or abs(change) <= MAX_DRIFT or device_class != "cuda":
        return Drift(change, 0)
    return Drift(change, reference_queries.invalidate_before(session, run_id, MOST_REPEATS))
