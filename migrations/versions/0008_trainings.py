"""trainings, their epochs, and leases that hold one

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("leases", "group_index", existing_type=sa.Integer(), nullable=True)
    op.create_table(
        "trainings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("recipe", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("recipe_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column("epochs_done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.UUID(), nullable=True),
        sa.Column("hinted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("weights", sa.Text(), nullable=True),
        sa.Column("environment_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'paused', 'completed', 'failed', 'cancelled')",
            name="trainings_status",
        ),
        sa.CheckConstraint(
            "(status = 'running') = (lease_token IS NOT NULL)", name="trainings_lease"
        ),
        sa.CheckConstraint("epochs_done BETWEEN 0 AND epochs", name="trainings_epochs"),
        sa.CheckConstraint(
            "status <> 'completed' OR epochs_done = epochs", name="trainings_completed"
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["lease_token"], ["leases.token"]),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "recipe_hash", name="trainings_once"),
    )
    op.create_index("trainings_of_sweep", "trainings", ["sweep_id", "id"])
    op.create_index(
        "trainings_to_hint", "trainings", ["id"], postgresql_where=sa.text("status = 'pending'")
    )
    op.create_index(
        "trainings_leased",
        "trainings",
        ["lease_token"],
        postgresql_where=sa.text("lease_token IS NOT NULL"),
    )
    op.create_table(
        "training_epochs",
        sa.Column("training_id", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("train_loss", sa.Float(), nullable=False),
        sa.Column("train_accuracy", sa.Float(), nullable=False),
        sa.Column("validation_loss", sa.Float(), nullable=False),
        sa.Column("validation_accuracy", sa.Float(), nullable=False),
        sa.Column("learning_rate", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("images_per_s", sa.Float(), nullable=True),
        sa.CheckConstraint("epoch > 0", name="training_epochs_epoch"),
        sa.CheckConstraint("train_accuracy BETWEEN 0 AND 1", name="training_epochs_train_accuracy"),
        sa.CheckConstraint("validation_accuracy BETWEEN 0 AND 1", name="training_epochs_accuracy"),
        sa.ForeignKeyConstraint(["training_id"], ["trainings.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("training_id", "epoch"),
    )


def downgrade() -> None:
    op.drop_table("training_epochs")
    op.drop_table("trainings")
    op.execute("DELETE FROM leases WHERE group_index IS NULL")
    op.alter_column("leases", "group_index", existing_type=sa.Integer(), nullable=False)
