"""attempts, idempotency keys, and which dataset exactly

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Rows of a sweep that is deleted go with it; that deletion comes from a trigger of Postgres itself.
APPEND_ONLY = """
CREATE FUNCTION keep_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' OR pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'attempts are a record: rows are added, never changed';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_attempts BEFORE UPDATE OR DELETE ON attempts
    FOR EACH STATEMENT EXECUTE FUNCTION keep_attempts();
"""


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("lease_token", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "ended_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("attempt > 0", name="attempts_attempt"),
        sa.CheckConstraint(
            "outcome IN ('completed', 'invalid', 'rejected', 'failed', 'released', 'expired', 'cancelled')",
            name="attempts_outcome",
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "lease_token"),
    )
    op.execute(APPEND_ONLY)
    op.add_column("sweeps", sa.Column("dataset_hash", sa.Text(), nullable=True))
    op.add_column("sweeps", sa.Column("idempotency_key", sa.Text(), nullable=True))
    op.add_column("sweeps", sa.Column("request_hash", sa.Text(), nullable=True))
    op.create_unique_constraint("sweeps_idempotency_key", "sweeps", ["idempotency_key"])
    op.add_column(
        "workers",
        sa.Column(
            "datasets",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("workers", "datasets")
    op.drop_constraint("sweeps_idempotency_key", "sweeps", type_="unique")
    op.drop_column("sweeps", "request_hash")
    op.drop_column("sweeps", "idempotency_key")
    op.drop_column("sweeps", "dataset_hash")
    op.drop_table("attempts")
    op.execute("DROP FUNCTION keep_attempts")
