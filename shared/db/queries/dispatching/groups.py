"""SQL about groups: which ones a hint should be sent for."""

from collections.abc import Sequence

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.db.queries.statements import sql

LONG_AGO = "epoch"  # Postgres's own word for the first moment of 1970
DISPATCH_LOCK = 6_202_611_231  # any number; the same for every dispatcher


def lock_dispatch(session: Session) -> bool:
    """Takes the turn to send hints until the transaction ends; False while another has it."""
    statement = sql("SELECT pg_try_advisory_xact_lock(:key)")
    return bool(session.execute(statement, {"key": DISPATCH_LOCK}).scalar_one())


def mark_groups_hinted(session: Session, *, limit: int, resend_s: float) -> list[Row[int, int]]:
    """Returns up to ``limit`` (sweep_id, group) that want a hint, and notes that they get one now.

    Wanted are groups of running sweeps with pending jobs that never had a hint, or had their last
    one longer ago than ``resend_s``; those never hinted come first, then by their position, so
    that sweeps side by side take turns. The commit does not wait for the disk: a mark that a crash
    of Postgres forgets repeats a hint.
    """
    statement = sql("""
        SET LOCAL synchronous_commit = off;
        WITH wanted AS (
            SELECT g.sweep_id, g.index FROM groups g JOIN sweeps s ON s.id = g.sweep_id
            WHERE g.pending > 0 AND s.status = 'running' AND g.hinted_at IS NULL
            ORDER BY g.position, g.sweep_id LIMIT :limit
            FOR NO KEY UPDATE OF g SKIP LOCKED
        ), again AS (
            SELECT g.sweep_id, g.index FROM groups g JOIN sweeps s ON s.id = g.sweep_id
            WHERE g.pending > 0 AND s.status = 'running'
              AND g.hinted_at < clock_timestamp() - make_interval(secs => :resend_s)
            ORDER BY g.position, g.sweep_id
            LIMIT (SELECT :limit - count(*) FROM wanted)
            FOR NO KEY UPDATE OF g SKIP LOCKED
        )
        UPDATE groups g SET hinted_at = clock_timestamp()
        FROM (SELECT * FROM wanted UNION ALL SELECT * FROM again) chosen
        WHERE g.sweep_id = chosen.sweep_id AND g.index = chosen.index
        RETURNING g.sweep_id, g.index AS group_index, g.position
    """)
    rows = list(session.execute(statement, {"limit": limit, "resend_s": resend_s}))
    return sorted(rows, key=lambda row: (row.position, row.sweep_id))


def clear_hints(session: Session, groups: Sequence[tuple[int, int]]) -> None:
    """Forgets that these (sweep_id, group) were hinted, so that they are hinted at once."""
    _set_hinted_at(session, groups, None)


def defer_hints(session: Session, groups: Sequence[tuple[int, int]]) -> None:
    """Lets these (sweep_id, group) be hinted again whenever no group waits for its first hint."""
    _set_hinted_at(session, groups, LONG_AGO)


def _set_hinted_at(
    session: Session, groups: Sequence[tuple[int, int]], hinted_at: str | None
) -> None:
    statement = sql("""
        UPDATE groups SET hinted_at = CAST(:hinted_at AS timestamptz)
        FROM unnest(CAST(:sweeps AS bigint[]), CAST(:indices AS int[])) AS u(sweep_id, index)
        WHERE groups.sweep_id = u.sweep_id AND groups.index = u.index
    """)
    sweeps, indices = [sweep for sweep, _ in groups], [index for _, index in groups]
    values = {"sweeps": sweeps, "indices": indices, "hinted_at": hinted_at}
    session.execute(statement, values)


def clear_hints_of_sweep(session: Session, sweep_id: int) -> None:
    """Forgets that a sweep's groups with pending jobs were hinted, so that they are at once."""
    statement = sql("""
        UPDATE groups SET hinted_at = NULL
        WHERE sweep_id = :sweep_id AND pending > 0 AND hinted_at IS NOT NULL
    """)
    session.execute(statement, {"sweep_id": sweep_id})
