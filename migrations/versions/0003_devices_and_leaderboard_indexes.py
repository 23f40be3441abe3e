"""completed jobs by environment, the fastest trial, and what the leaderboard is read by

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Comes after count_changed_jobs, by its name: that one has locked the sweep's progress, so two
# statements cannot wait for each other here. First claims and cancellations know no environment and
# end at the first look, which joins nothing: a join of two transition tables may take their product.
COUNT_ENVIRONMENTS = """
CREATE FUNCTION count_environments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM new_jobs WHERE environment_id IS NOT NULL)
        AND NOT EXISTS (SELECT FROM old_jobs WHERE environment_id IS NOT NULL)
    THEN
        RETURN NULL;
    END IF;
    INSERT INTO sweep_environments AS kept (sweep_id, environment_id, completed)
    SELECT sweep_id, environment_id, sum(change) FROM (
        SELECT sweep_id, environment_id, (status = 'completed')::int AS change FROM new_jobs
        UNION ALL
        SELECT sweep_id, environment_id, -(status = 'completed')::int FROM old_jobs
    ) changes WHERE environment_id IS NOT NULL GROUP BY sweep_id, environment_id
    ORDER BY sweep_id, environment_id
    ON CONFLICT (sweep_id, environment_id)
        DO UPDATE SET completed = kept.completed + excluded.completed;
    RETURN NULL;
END $$;
CREATE TRIGGER count_environments AFTER UPDATE ON jobs
    REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION count_environments();
ALTER TABLE sweep_environments SET (fillfactor = 10);
INSERT INTO sweep_environments (sweep_id, environment_id, completed)
SELECT sweep_id, environment_id, count(*) FILTER (WHERE status = 'completed')
FROM jobs WHERE environment_id IS NOT NULL GROUP BY sweep_id, environment_id;
"""
FASTEST_TRIALS = """
UPDATE jobs SET throughput_max = fastest.images_per_s
FROM (SELECT job_id, max(images_per_s) AS images_per_s FROM trials GROUP BY job_id) fastest
WHERE jobs.id = fastest.job_id;
"""


def _ranked_by(column: str, other: str) -> None:
    op.create_index(
        f"jobs_by_{column}",
        "jobs",
        ["sweep_id", sa.literal_column(f"{column} DESC NULLS LAST"), "id"],
        postgresql_include=[other, "environment_id"],
        postgresql_where=sa.text("status = 'completed'"),
    )


def upgrade() -> None:
    op.create_table(
        "sweep_environments",
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("environment_id", sa.BigInteger(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"]),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sweep_id", "environment_id"),
    )
    op.add_column("jobs", sa.Column("throughput_max", sa.Float(), nullable=True))
    op.execute(FASTEST_TRIALS)
    op.execute(COUNT_ENVIRONMENTS)
    op.drop_index("jobs_by_accuracy", table_name="jobs")
    _ranked_by("accuracy", "throughput")
    _ranked_by("throughput", "accuracy")


def downgrade() -> None:
    op.drop_index("jobs_by_throughput", table_name="jobs")
    op.drop_index("jobs_by_accuracy", table_name="jobs")
    op.create_index(
        "jobs_by_accuracy",
        "jobs",
        ["sweep_id", sa.literal_column("accuracy DESC"), "id"],
        postgresql_where=sa.text("status = 'completed'"),
    )
    op.execute("DROP TRIGGER count_environments ON jobs")
    op.execute("DROP FUNCTION count_environments")
    op.drop_column("jobs", "throughput_max")
    op.drop_table("sweep_environments")
