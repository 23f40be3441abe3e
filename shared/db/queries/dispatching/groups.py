"""SQL about groups: which ones a hint should be sent for."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.rows import read_rows
from shared.db.queries.statements import sql

LONG_AGO = "epoch"  # Postgres's name for the first moment of 1970
DISPATCH_LOCK = 6_202_611_231  # any number; the same for every dispatcher


@dataclass(frozen=True, slots=True)
class HintedGroup:
    """A group that a hint is sent for."""

    sweep_id: int
    group_index: int
    position: int  # its place in the sweep's order


def lock_dispatch(session: Session) -> bool:
    """Locks dispatching until the transaction ends; False while another transaction holds it."""
    statement = sql("SELECT pg_try_advisory_xact_lock(:key)")
    return bool(session.execute(statement, {"key": DISPATCH_LOCK}).scalar_one())


def mark_groups_hinted(
    session: Session, *, limit: int, resend_s: float, without: Sequence[int] = ()
) -> list[HintedGroup]:
    """Returns up to ``limit`` groups that are due for a hint, and marks them as hinted now.

    Due are groups of running sweeps with pending jobs that were never hinted, or whose last hint
    is more than ``resend_s`` old. Those never hinted come first, then by position, so that several
    sweeps take turns. Sweeps in ``without`` are left out. The commit does not wait for the disk: if
    Postgres crashes and loses a mark, a hint is repeated.
    """
    statement = sql("""
        SET LOCAL synchronous_commit = off;
        WITH first AS (
            SELECT g.sweep_id, g.index FROM groups g JOIN sweeps s ON s.id = g.sweep_id
            WHERE g.pending > 0 AND s.status = 'running' AND g.hinted_at IS NULL
              AND g.sweep_id <> ALL(CAST(:without AS bigint[]))
            ORDER BY g.position, g.sweep_id LIMIT :limit
            FOR NO KEY UPDATE OF g SKIP LOCKED
        ), again AS (
            SELECT g.sweep_id, g.index FROM groups g JOIN sweeps s ON s.id = g.sweep_id
            WHERE g.pending > 0 AND s.status = 'running'
              AND g.hinted_at < clock_timestamp() - make_interval(secs => :resend_s)
              AND g.sweep_id <> ALL(CAST(:without AS bigint[]))
            ORDER BY g.position, g.sweep_id
            LIMIT (SELECT :limit - count(*) FROM first)
            FOR NO KEY UPDATE OF g SKIP LOCKED
        )
        UPDATE groups g SET hinted_at = clock_timestamp()
        FROM (SELECT * FROM first UNION ALL SELECT * FROM again) chosen
        WHERE g.sweep_id = chosen.sweep_id AND g.index = chosen.index
        RETURNING g.sweep_id, g.index AS group_index, g.position
    """)
    values = {"limit": limit, "resend_s": resend_s, "without": list(without)}
    groups = read_rows(HintedGroup, session.execute(statement, values))
    return sorted(groups, key=lambda group: (group.position, group.sweep_id))


def mark_groups_of_sweep_hinted(
    session: Session, sweep_id: int, *, limit: int, resend_s: float
) -> list[HintedGroup]:
    """Returns up to ``limit`` groups of one sweep that are due for a hint, and marks them."""
    statement = sql("""
        WITH chosen AS (
            SELECT sweep_id, index FROM groups
            WHERE sweep_id = :sweep_id AND pending > 0 AND (hinted_at IS NULL
                OR hinted_at < clock_timestamp() - make_interval(secs => :resend_s))
            ORDER BY position LIMIT :limit
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE groups g SET hinted_at = clock_timestamp() FROM chosen
        WHERE g.sweep_id = chosen.sweep_id AND g.index = chosen.index
        RETURNING g.sweep_id, g.index AS group_index, g.position
    """)
    values = {"sweep_id": sweep_id, "limit": limit, "resend_s": resend_s}
    return read_rows(HintedGroup, session.execute(statement, values))


def clear_hints(session: Session, groups: Sequence[tuple[int, int]]) -> None:
    """Marks these (sweep_id, group) as never hinted, so that they are hinted at once."""
    _set_hinted_at(session, groups, None)


def defer_hints(session: Session, groups: Sequence[tuple[int, int]]) -> None:
    """Makes these (sweep_id, group) due again at once, after groups that were never hinted.

    The commit does not wait for the disk: a lost mark costs only the resend time.
    """
    _set_hinted_at(session, groups, LONG_AGO, "SET LOCAL synchronous_commit = off;")


def _set_hinted_at(
    session: Session,
    groups: Sequence[tuple[int, int]],
    hinted_at: str | None,
    prefix: str = "",
) -> None:
    statement = sql(f"""
        {prefix} UPDATE groups SET hinted_at = CAST(:hinted_at AS timestamptz)
        FROM unnest(CAST(:sweeps AS bigint[]), CAST(:indices AS int[])) AS u(sweep_id, index)
        WHERE groups.sweep_id = u.sweep_id AND groups.index = u.index
    """)  # noqa: S608
    sweeps, indices = [sweep for sweep, _ in groups], [index for _, index in groups]
    values = {"sweeps": sweeps, "indices": indices, "hinted_at": hinted_at}
    session.execute(statement, values)


def clear_hints_of_sweep(session: Session, sweep_id: int) -> None:
    """Marks a sweep's groups with pending jobs as never hinted, so that they are hinted at once."""
    statement = sql("""
        UPDATE groups SET hinted_at = NULL
        WHERE sweep_id = :sweep_id AND pending > 0 AND hinted_at IS NOT NULL
    """)
    session.execute(statement, {"sweep_id": sweep_id})
