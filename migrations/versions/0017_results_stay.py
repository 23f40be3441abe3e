"""jobs with results keep them while more trials are made

What an extension hid before is shown again: leaders that a later trial rejected, jobs that were
cancelled although they had results, and when the results of waiting jobs came.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

RANKED = "trials_done > 0 AND status <> 'rejected'"
INDEXES = {"accuracy": "throughput", "throughput": "accuracy"}

# Gates apply to the trials of the protocol: who has more passed these, and a later one rejected it.
RESTORE_REJECTED = """
UPDATE jobs SET status = 'completed', trials_target = trials_done, reason = NULL, error = NULL
FROM sweeps s WHERE s.id = jobs.sweep_id AND jobs.status = 'rejected'
    AND jobs.trials_done > CAST(s.protocol->>'trials' AS int)
"""
RESTORE_CANCELLED = """
UPDATE jobs SET status = 'completed', trials_target = trials_done
WHERE status = 'cancelled' AND trials_done > 0
"""
RESTORE_SWEEPS = """
UPDATE sweeps SET status = 'completed', completed_at = coalesce(completed_at, updated_at)
FROM sweep_progress p WHERE p.sweep_id = sweeps.id AND sweeps.status = 'cancelled'
    AND p.pending = 0 AND p.running = 0 AND p.cancelled = 0
"""
RESTORE_TIMES = """
UPDATE jobs SET finished_at = latest.finished_at
FROM (SELECT job_id, max(finished_at) AS finished_at FROM trials GROUP BY job_id) latest
WHERE jobs.id = latest.job_id AND jobs.finished_at IS NULL
"""
COUNTED_BEFORE = "status = 'completed'"
COUNT_BY = """
DO $do$ BEGIN
    EXECUTE replace(pg_get_functiondef('count_environments'::regproc),
        $before$({before})::int$before$, $after$({after})::int$after$);
END $do$
"""
RECOUNT = """
UPDATE sweep_environments kept SET completed = counted.jobs
FROM (
    SELECT k.sweep_id, k.environment_id, count(j.id) AS jobs
    FROM sweep_environments k LEFT JOIN (SELECT * FROM jobs WHERE {counted}) j
        ON j.sweep_id = k.sweep_id AND j.environment_id = k.environment_id
    GROUP BY k.sweep_id, k.environment_id
) counted
WHERE kept.sweep_id = counted.sweep_id AND kept.environment_id = counted.environment_id
"""


def _count(before: str, after: str) -> None:
    op.execute(COUNT_BY.format(before=before, after=after))
    op.execute(RECOUNT.format(counted=after))


def _index(name: str, column: str, other: str, where: str) -> None:
    op.create_index(
        name,
        "jobs",
        ["sweep_id", sa.literal_column(f"{column} DESC NULLS LAST"), "id"],
        postgresql_include=[other, "environment_id"],
        postgresql_where=sa.text(where),
    )


def upgrade() -> None:
    for statement in (RESTORE_REJECTED, RESTORE_CANCELLED, RESTORE_SWEEPS, RESTORE_TIMES):
        op.execute(statement)
    _count(COUNTED_BEFORE, RANKED)
    for column, other in INDEXES.items():
        _index(f"jobs_ranked_by_{column}", column, other, RANKED)
        op.drop_index(f"jobs_by_{column}", table_name="jobs")
    op.create_index(
        "jobs_ranked_in_work",
        "jobs",
        ["sweep_id", "status"],
        postgresql_where=sa.text(f"{RANKED} AND status <> 'completed'"),
    )


def downgrade() -> None:
    op.drop_index("jobs_ranked_in_work", table_name="jobs")
    for column, other in INDEXES.items():
        _index(f"jobs_by_{column}", column, other, COUNTED_BEFORE)
        op.drop_index(f"jobs_ranked_by_{column}", table_name="jobs")
    _count(RANKED, COUNTED_BEFORE)
