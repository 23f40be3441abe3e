"""throughputs that are predicted from another device model, and where they come from

A device model has a second scale beside what its timings say: corrected for the speeds of single
units, and predicted where it has not timed a network. Its rows are under the model's name followed
by " (calibrated)".

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

KINDS = "kind IN ('measured', 'predicted')"


def upgrade() -> None:
    op.add_column(
        "throughputs", sa.Column("kind", sa.Text(), nullable=False, server_default="measured")
    )
    op.create_check_constraint("throughputs_kind", "throughputs", KINDS)
    op.create_table(
        "calibrations",
        sa.Column(
            "sweep_id", sa.BigInteger(), sa.ForeignKey("sweeps.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("device", sa.Text(), primary_key=True),
        sa.Column("reference_version", sa.SmallInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("timed", sa.Integer(), nullable=False),
        sa.Column("measured", sa.Integer(), nullable=False),
        sa.Column("predicted", sa.Integer(), nullable=False),
        sa.Column("sources", JSONB(), nullable=False),
        sa.Column(
            "calibrated_at", sa.DateTime(timezone=True), nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
    )  # fmt: skip


def downgrade() -> None:
    op.drop_table("calibrations")
    op.execute("DELETE FROM throughputs WHERE device LIKE '% (calibrated)'")
    op.drop_constraint("throughputs_kind", "throughputs")
    op.drop_column("throughputs", "kind")
