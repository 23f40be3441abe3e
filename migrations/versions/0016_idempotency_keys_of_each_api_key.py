"""idempotency keys belong to the API key that used them

Rows that exist, and rows that processes of the release before add, have the empty scope. The
constraint keeps its name, because those processes name it.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

CONSTRAINT = "sweeps_idempotency_key"


def upgrade() -> None:
    scope = sa.Column("idempotency_scope", sa.Text(), server_default=sa.text("''"), nullable=False)
    op.add_column("sweeps", scope)
    op.drop_constraint(CONSTRAINT, "sweeps", type_="unique")
    op.create_unique_constraint(CONSTRAINT, "sweeps", ["idempotency_key", "idempotency_scope"])


def downgrade() -> None:
    # of sweeps with the same key the first one keeps it
    op.execute("""
        UPDATE sweeps SET idempotency_key = NULL, request_hash = NULL WHERE EXISTS (
            SELECT FROM sweeps earlier
            WHERE earlier.idempotency_key = sweeps.idempotency_key AND earlier.id < sweeps.id
        )
    """)
    op.drop_constraint(CONSTRAINT, "sweeps", type_="unique")
    op.drop_column("sweeps", "idempotency_scope")
    op.create_unique_constraint(CONSTRAINT, "sweeps", ["idempotency_key"])
