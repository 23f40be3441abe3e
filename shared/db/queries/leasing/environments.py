"""SQL about environments: code version, device, libraries and dataset of measurements."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


@dataclass(frozen=True, slots=True)
class KnownEnvironment:
    """What the database knows before the results of a lease are written."""

    id: int | None  # of the environment; None where it is new
    dataset_hash: str | None  # of the sweep's images; None before its first trials
    timing_model: str | None  # the device model that must time the sweep's networks
    wants_timings: bool  # whether any network waits to be timed on a certain model


def find_environment(session: Session, fingerprint: str, sweep_id: int) -> KnownEnvironment:
    """Returns the id of an environment, if it is known, and what the sweep asks of it."""
    statement = sql("""
        SELECT e.id, s.dataset_hash, s.protocol #>> '{timing,device_model}' AS timing_model,
            EXISTS (SELECT FROM wanted_timings) AS wants_timings
        FROM sweeps s LEFT JOIN environments e ON e.fingerprint = :fingerprint
        WHERE s.id = :sweep_id
    """)
    values = {"fingerprint": fingerprint, "sweep_id": sweep_id}
    row = session.execute(statement, values).one()
    return KnownEnvironment(row.id, row.dataset_hash, row.timing_model, row.wants_timings)


def upsert_environment(session: Session, environment: dict[str, Any]) -> int:
    """Adds an environment unless another transaction just added it; returns its id.

    Call ``find_environment`` first: this locks the environment's row, so that every completion on
    the same kind of device waits for the one before.
    """
    statement = sql("""
        INSERT INTO environments
            (code_version, device_class, device, dataset, dataset_hash, versions, fingerprint)
        VALUES (:code_version, :device_class, :device, :dataset, :dataset_hash,
                CAST(:versions AS jsonb), :fingerprint)
        ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint
        RETURNING id
    """)
    return int(session.execute(statement, environment).scalar_one())
