"""how often each value of a layer's field occurs, so that filters by layers get fitting plans

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Without them the planner takes every such condition to let half a percent pass, reads all results
# of the sweep and sorts them. They cost nothing when jobs change, only when Postgres analyses.
FIELDS = ("channels", "kernel_size", "stride", "dilation", "padding", "activation")
LAYERS = range(1, 5)  # the first four


def upgrade() -> None:
    for field in FIELDS:
        for layer in LAYERS:
            op.execute(f"CREATE STATISTICS jobs_{field}_{layer} ON ({field}[{layer}]) FROM jobs")


def downgrade() -> None:
    for field in FIELDS:
        for layer in LAYERS:
            op.execute(f"DROP STATISTICS jobs_{field}_{layer}")
