"""API keys, and an index that counts expired leases

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("scope IN ('read', 'write', 'admin')", name="api_keys_scope"),
        sa.CheckConstraint("octet_length(secret_hash) = 32", name="api_keys_secret_hash"),
        sa.PrimaryKeyConstraint("prefix"),
    )
    op.create_index(
        "leases_expired", "leases", ["ended_at"], postgresql_where=sa.text("outcome = 'expired'")
    )


def downgrade() -> None:
    op.drop_index("leases_expired", "leases")
    op.drop_table("api_keys")
