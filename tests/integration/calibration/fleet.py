"""Workers on units of device models, without the devices: what calibration is tested with."""

import uuid
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.calibration.references import Drift, note_reference_run
from services.leasing.group_leases import Claim, claim_group, complete_claim
from services.monitoring.workers import register_worker
from services.sweeps.creation import create_sweep
from shared.domain.architecture import Architecture
from shared.domain.measurements import Conditions, DeviceReading, Throughput
from shared.domain.measurements import ThroughputSource as Source
from shared.domain.protocol import Timing
from shared.domain.reference_set import NETWORKS
from tests.integration.scenario import environment, small_protocol, small_space, success, trial

Speeds = float | Callable[[Architecture], float]

GPU = "H100"
STEADY = [100.0] * len(NETWORKS)
SLOWER = [92.0] * len(NETWORKS)


def conditions(unit: str) -> Conditions:
    reading = DeviceReading(clock_mhz=1700.0, throttle_reasons=("software_power_cap",))
    return Conditions(unit, "580", 1755.0, reading, reading)


class Worker:
    """A worker on one unit of a device model, without its device."""

    def __init__(
        self, session: Session, unit: str = "GPU-1", model: str = GPU, device_class: str = "cuda"
    ) -> None:
        self.session, self.unit, self.model, self.device_class = session, unit, model, device_class
        self.id = uuid.uuid4()
        register_worker(
            session, self.id, hostname="box", pid=7, device_class=device_class, device=model,
            code_version="1",
        )  # fmt: skip
        session.commit()

    def run_references(self, images_per_s: list[float]) -> Drift:
        drift = note_reference_run(
            self.session,
            self.id,
            device_class=self.device_class,
            device=self.model,
            versions={"torch": "2"},
            images_per_s=images_per_s,
            conditions=conditions(self.unit),
        )
        self.session.commit()
        return drift

    def claim(self, sweep_id: int, group: int = 0, *, times: bool = True) -> Claim | None:
        held = claim_group(
            self.session, sweep_id=sweep_id, group=group, worker_id=self.id, lease_s=60, limit=64,
            times=times,
        )  # fmt: skip
        self.session.commit()
        return held

    def evaluate(self, sweep_id: int, group: int = 0, images_per_s: Speeds = 100.0) -> None:
        """Makes all trials of a group, and times what has to be timed."""
        held = self.claim(sweep_id, group)
        assert held is not None
        self.complete(held, images_per_s)

    def complete(self, held: Claim, images_per_s: Speeds = 100.0) -> None:
        outcomes = []
        for job in held.jobs:
            speed = (
                images_per_s if isinstance(images_per_s, float) else images_per_s(job.architecture)
            )
            rate = Throughput(speed, 0.01, 9, Source.REPLAYED, conditions(self.unit))
            made = success([trial(number, images_per_s=None) for number in job.trials])
            outcomes.append(made if job.timed else replace(made, timing=rate))
        complete_claim(self.session, held, outcomes, environment(self.model))
        self.session.commit()


def add_timed_sweep(session: Session, groups: int, trials: int = 1) -> int:
    """Creates and commits a sweep whose networks every worker times; returns its id."""
    protocol = small_protocol(trials).model_copy(update={"timing": Timing()})
    sweep = create_sweep(session, small_space(groups), protocol)
    session.commit()
    return sweep.id


def timed(session: Session, sweep_id: int) -> dict[str, int]:
    """Returns the numbers of networks with a throughput, by device model, as they are kept."""
    rows = session.execute(
        text("SELECT device, timed FROM sweep_devices WHERE sweep_id = :id AND timed > 0"),
        {"id": sweep_id},
    )
    kept = {row.device: row.timed for row in rows}
    counted = session.execute(
        text(
            "SELECT device, count(*) AS jobs FROM throughputs WHERE sweep_id = :id GROUP BY device"
        ),
        {"id": sweep_id},
    )
    assert kept == {row.device: row.jobs for row in counted}
    return kept
