"""the first schema

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Counts follow the jobs in the same transaction, whoever changes them. Progress rows are locked
# first and by id, so that two statements over many groups cannot wait for each other in a circle.
_APPLY_CHANGES = """
    PERFORM FROM sweep_progress p WHERE p.sweep_id IN (SELECT DISTINCT n.sweep_id FROM new_jobs n)
    ORDER BY p.sweep_id FOR NO KEY UPDATE;
    UPDATE sweep_progress p SET
        pending = p.pending + c.pending, running = p.running + c.running,
        completed = p.completed + c.completed, invalid = p.invalid + c.invalid,
        rejected = p.rejected + c.rejected, failed = p.failed + c.failed,
        cancelled = p.cancelled + c.cancelled
    FROM (
        SELECT sweep_id,
            coalesce(sum(change) FILTER (WHERE status = 'pending'), 0) AS pending,
            coalesce(sum(change) FILTER (WHERE status = 'running'), 0) AS running,
            coalesce(sum(change) FILTER (WHERE status = 'completed'), 0) AS completed,
            coalesce(sum(change) FILTER (WHERE status = 'invalid'), 0) AS invalid,
            coalesce(sum(change) FILTER (WHERE status = 'rejected'), 0) AS rejected,
            coalesce(sum(change) FILTER (WHERE status = 'failed'), 0) AS failed,
            coalesce(sum(change) FILTER (WHERE status = 'cancelled'), 0) AS cancelled
        FROM ({changes}) changes GROUP BY sweep_id
    ) c WHERE p.sweep_id = c.sweep_id;
    UPDATE groups g SET pending = g.pending + c.pending
    FROM (
        SELECT sweep_id, group_index, sum(change) AS pending
        FROM ({changes}) changes WHERE status = 'pending' GROUP BY sweep_id, group_index
    ) c WHERE g.sweep_id = c.sweep_id AND g.index = c.group_index;
    RETURN NULL;
"""
_ARRIVED = "SELECT sweep_id, group_index, status, 1 AS change FROM new_jobs"
_LEFT = "SELECT sweep_id, group_index, status, -1 AS change FROM old_jobs"
COUNT_JOBS = f"""
CREATE FUNCTION count_new_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {_APPLY_CHANGES.format(changes=_ARRIVED)}
END $$;
CREATE TRIGGER count_new_jobs AFTER INSERT ON jobs REFERENCING NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION count_new_jobs();
CREATE FUNCTION count_changed_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM old_jobs o JOIN new_jobs n USING (id) WHERE o.status <> n.status)
    THEN
        RETURN NULL;
    END IF;
    {_APPLY_CHANGES.format(changes=_ARRIVED + " UNION ALL " + _LEFT)}
END $$;
CREATE TRIGGER count_changed_jobs AFTER UPDATE ON jobs
    REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION count_changed_jobs();
"""
# Rows that change often keep room beside them, so that an update stays on its page.
ROOM_FOR_UPDATES = """
ALTER TABLE sweep_progress SET (fillfactor = 10);
ALTER TABLE groups SET (fillfactor = 70);
ALTER TABLE leases SET (fillfactor = 80);
ALTER TABLE jobs SET (fillfactor = 60);
"""


def upgrade() -> None:
    op.create_table(
        "environments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("device_class", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("dataset_hash", sa.Text(), nullable=False),
        sa.Column("versions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fingerprint"),
    )
    op.create_table(
        "sweeps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("space", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("protocol", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('running', 'paused', 'completed', 'cancelled')", name="sweeps_status"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device_class", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "groups",
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("pending", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("hinted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("pending >= 0", name="groups_pending"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sweep_id", "index"),
    )
    op.create_index(
        "groups_to_hint",
        "groups",
        ["position", "sweep_id"],
        unique=False,
        postgresql_where=sa.text("pending > 0"),
    )
    op.create_table(
        "leases",
        sa.Column("token", sa.UUID(), nullable=False),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("group_index", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('completed', 'released', 'failed', 'expired', 'cancelled')",
            name="leases_outcomes",
        ),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="leases_outcome"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["workers.id"],
        ),
        sa.PrimaryKeyConstraint("token"),
    )
    op.create_index(
        "leases_ended",
        "leases",
        ["sweep_id", "ended_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "leases_of_worker",
        "leases",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "leases_open",
        "leases",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "sweep_progress",
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("running", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("completed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("invalid", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("cancelled", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sweep_id"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("space_index", sa.Integer(), nullable=False),
        sa.Column("group_index", sa.Integer(), nullable=False),
        sa.Column("architecture_hash", sa.LargeBinary(), nullable=False),
        sa.Column("channels", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("kernel_size", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("stride", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("dilation", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("padding", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("activation", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("ratio", sa.Float(), nullable=True),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("flops", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.UUID(), nullable=True),
        sa.Column("trials_done", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("trials_target", sa.SmallInteger(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=True),
        sa.Column("accuracy_sd", sa.Float(), nullable=True),
        sa.Column("accuracy_min", sa.Float(), nullable=True),
        sa.Column("accuracy_max", sa.Float(), nullable=True),
        sa.Column("train_accuracy", sa.Float(), nullable=True),
        sa.Column("throughput", sa.Float(), nullable=True),
        sa.Column("throughput_min", sa.Float(), nullable=True),
        sa.Column("throughput_measured", sa.Boolean(), nullable=True),
        sa.Column("fit_s", sa.Float(), nullable=True),
        sa.Column("environment_id", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="jobs_lease"),
        sa.CheckConstraint(
            "status <> 'completed' OR trials_done = trials_target", name="jobs_completed"
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'invalid', 'rejected', 'failed', 'cancelled')",
            name="jobs_status",
        ),
        sa.CheckConstraint("trials_done BETWEEN 0 AND trials_target", name="jobs_trials"),
        sa.ForeignKeyConstraint(
            ["environment_id"],
            ["environments.id"],
        ),
        sa.ForeignKeyConstraint(
            ["lease_token"],
            ["leases.token"],
        ),
        sa.ForeignKeyConstraint(
            ["sweep_id", "group_index"], ["groups.sweep_id", "groups.index"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sweep_id", "architecture_hash", name="jobs_architecture_once"),
    )
    op.create_index(
        "jobs_by_accuracy",
        "jobs",
        ["sweep_id", sa.literal_column("accuracy DESC"), "id"],
        unique=False,
        postgresql_where=sa.text("status = 'completed'"),
    )
    op.create_index("jobs_by_status", "jobs", ["sweep_id", "status", "id"], unique=False)
    op.create_index(
        "jobs_claimable",
        "jobs",
        ["sweep_id", "group_index"],
        unique=False,
        postgresql_where=sa.text("status='pending'"),
    )
    op.create_index(
        "jobs_leased",
        "jobs",
        ["lease_token"],
        unique=False,
        postgresql_where=sa.text("lease_token IS NOT NULL"),
    )
    op.create_table(
        "trials",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("trial", sa.SmallInteger(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=False),
        sa.Column("train_accuracy", sa.Float(), nullable=False),
        sa.Column("fit_s", sa.Float(), nullable=False),
        sa.Column("images_per_s", sa.Float(), nullable=True),
        sa.Column("images_per_s_spread", sa.Float(), nullable=True),
        sa.Column("timing_runs", sa.Integer(), nullable=True),
        sa.Column("throughput_source", sa.Text(), nullable=True),
        sa.Column("weights_seed", sa.BigInteger(), nullable=False),
        sa.Column("correct_bits", sa.LargeBinary(), nullable=False),
        sa.Column("environment_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("accuracy BETWEEN 0 AND 1", name="trials_accuracy"),
        sa.CheckConstraint("images_per_s > 0", name="trials_images_per_s"),
        sa.CheckConstraint("train_accuracy BETWEEN 0 AND 1", name="trials_train_accuracy"),
        sa.CheckConstraint("trial >= 0", name="trials_trial"),
        sa.ForeignKeyConstraint(
            ["environment_id"],
            ["environments.id"],
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "trial"),
    )
    op.execute(COUNT_JOBS)
    op.execute(ROOM_FOR_UPDATES)


def downgrade() -> None:
    op.drop_table("trials")
    op.drop_index(
        "jobs_leased", table_name="jobs", postgresql_where=sa.text("lease_token IS NOT NULL")
    )
    op.drop_index("jobs_claimable", table_name="jobs", postgresql_where=sa.text("status='pending'"))
    op.drop_index("jobs_by_status", table_name="jobs")
    op.drop_index(
        "jobs_by_accuracy", table_name="jobs", postgresql_where=sa.text("status = 'completed'")
    )
    op.drop_table("jobs")
    op.drop_table("sweep_progress")
    op.drop_index("leases_open", table_name="leases", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_index(
        "leases_of_worker", table_name="leases", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.drop_index(
        "leases_ended", table_name="leases", postgresql_where=sa.text("ended_at IS NOT NULL")
    )
    op.drop_table("leases")
    op.drop_index("groups_to_hint", table_name="groups", postgresql_where=sa.text("pending > 0"))
    op.drop_table("groups")
    op.drop_table("workers")
    op.drop_table("sweeps")
    op.drop_table("environments")
    op.execute("DROP FUNCTION count_new_jobs, count_changed_jobs")
