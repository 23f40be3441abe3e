"""which sweep a worker's problem keeps it from, and since when

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("problem_sweep_id", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("problem_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "problem_at")
    op.drop_column("workers", "problem_sweep_id")
