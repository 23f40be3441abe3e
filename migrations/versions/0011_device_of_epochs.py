"""which device an epoch ran on: a training may go on elsewhere

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("training_epochs", sa.Column("device", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("training_epochs", "device")
