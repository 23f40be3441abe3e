"""SQL about the devices that measured a sweep, and what its protocol says of throughputs."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql

# Of a job: the device model has not found it slower than the gate. Without a gate it always holds.
NOT_SLOW = """NOT EXISTS (
    SELECT FROM throughputs t WHERE t.job_id = jobs.id AND t.device = :device
        AND t.throughput < CAST(:min_throughput AS float8)
)"""


@dataclass(frozen=True, slots=True)
class SweepDevices:
    """Jobs of a sweep by device model, and its protocol's gate on throughput."""

    measured: dict[str, int]  # ranked jobs, by the model of their last trials
    timed: dict[str, int]
    min_throughput: float | None  # images/s
    timing_model: str | None  # the model that the gate is about; None for any


def count_by_device(session: Session, sweep_id: int) -> SweepDevices | None:
    """Returns a sweep's jobs by device model; None where there is no such sweep."""
    statement = sql("""
        WITH measured AS (
            SELECT e.device, sum(k.completed) AS jobs
            FROM sweep_environments k JOIN environments e ON e.id = k.environment_id
            WHERE k.sweep_id = :sweep_id GROUP BY e.device
        ), timed AS (
            SELECT device, timed AS jobs FROM sweep_devices WHERE sweep_id = :sweep_id
        )
        SELECT device, coalesce(measured.jobs, 0)::int AS measured,
            coalesce(timed.jobs, 0) AS timed,
            CAST(s.protocol #>> '{gates,min_throughput}' AS float8) AS min_throughput,
            s.protocol #>> '{timing,device_model}' AS timing_model
        FROM measured FULL JOIN timed USING (device) RIGHT JOIN sweeps s ON true
        WHERE s.id = :sweep_id
    """)
    rows = session.execute(statement, {"sweep_id": sweep_id}).all()
    if not rows:
        return None
    known = [row for row in rows if row.device is not None]
    return SweepDevices(
        {row.device: row.measured for row in known},
        {row.device: row.timed for row in known},
        rows[0].min_throughput,
        rows[0].timing_model,
    )
