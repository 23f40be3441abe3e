"""The labels of validation images, by the hash of their dataset

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_labels",
        sa.Column("dataset_hash", sa.Text(), nullable=False),
        sa.Column("labels", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.PrimaryKeyConstraint("dataset_hash"),
    )


def downgrade() -> None:
    op.drop_table("dataset_labels")
