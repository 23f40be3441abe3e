"""SQL about bridges: networks of a sweep that several device models have to time."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql

_STEPS = 1 << 20  # of a share


def lock_bridge(session: Session, sweep_id: int, share: float, seed: int) -> list[int]:
    """Locks a random share of a sweep's jobs that have or may get results; returns their ids.

    Which networks are chosen depends on their places in the space and on the seed, so another
    request chooses the same ones, and a larger share all of these and more.
    """
    statement = sql("""
        SELECT id FROM jobs
        WHERE sweep_id = :sweep_id AND status IN ('pending', 'running', 'completed')
          AND (hashint8extended(space_index, :seed) & (:steps - 1)) < :share * :steps
        ORDER BY id FOR UPDATE
    """)
    values = {"sweep_id": sweep_id, "share": share, "seed": seed, "steps": _STEPS}
    return list(session.execute(statement, values).scalars())


def want_timings(session: Session, job_ids: Sequence[int], devices: Sequence[str]) -> int:
    """Asks the models for timings of locked jobs that they have not timed; returns their number.

    Completed jobs are pending again, attempts counted from zero.
    """
    statement = sql("""
        WITH wanted AS (
            INSERT INTO wanted_timings (job_id, device, reason)
            SELECT j.id, d.device, 'bridge'
            FROM unnest(CAST(:job_ids AS bigint[])) AS j(id)
            CROSS JOIN unnest(CAST(:devices AS text[])) AS d(device)
            WHERE NOT EXISTS (
                SELECT FROM throughputs t WHERE t.job_id = j.id AND t.device = d.device
            )
            ORDER BY j.id, d.device ON CONFLICT DO NOTHING RETURNING job_id
        ), again AS (
            UPDATE jobs SET status = 'pending', attempt = 0
            WHERE id IN (SELECT job_id FROM wanted) AND status = 'completed'
        )
        SELECT count(*) FROM wanted
    """)
    values = {"job_ids": list(job_ids), "devices": list(devices)}
    return int(session.execute(statement, values).scalar_one())


def select_known_models(session: Session) -> list[str]:
    """Returns the device models of all workers that ever registered, by name."""
    return list(session.execute(sql("SELECT DISTINCT device FROM workers ORDER BY 1")).scalars())
