"""how often a network is timed: sweeps from before time each trial, as they began

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        UPDATE sweeps SET protocol = jsonb_set(protocol, '{timing,repeat}', '"each_trial"')
        WHERE jsonb_typeof(protocol -> 'timing') = 'object'
            AND NOT protocol -> 'timing' ? 'repeat'
        """
    )


def downgrade() -> None:
    # The version before refuses fields that it does not know, and it times each trial.
    op.execute("UPDATE sweeps SET protocol = protocol #- '{timing,repeat}'")
