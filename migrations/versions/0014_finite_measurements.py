"""measured numbers are finite and in their range, by the database itself

The constraints hold for new and changed rows from here on. Rows that are there already are checked
afterwards, without blocking anybody: migrations/upgrade.py.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# NaN is greater than every number in Postgres, so an upper bound refuses it
CHECKS = {
    "jobs_measured": (
        "jobs",
        "ratio BETWEEN 0 AND 1e15 AND accuracy BETWEEN 0 AND 1 AND accuracy_sd BETWEEN 0 AND 1 "
        "AND accuracy_min BETWEEN 0 AND 1 AND accuracy_max BETWEEN 0 AND 1 "
        "AND train_accuracy BETWEEN 0 AND 1 AND throughput BETWEEN 1e-15 AND 1e15 "
        "AND throughput_min BETWEEN 1e-15 AND 1e15 AND throughput_max BETWEEN 1e-15 AND 1e15 "
        "AND fit_s BETWEEN 0 AND 1e15 AND parameters >= 0 AND flops >= 0",
    ),
    "trials_measured": (
        "trials",
        "fit_s BETWEEN 0 AND 1e15 AND images_per_s BETWEEN 1e-15 AND 1e15 "
        "AND images_per_s_spread BETWEEN 0 AND 1e15 AND timing_runs >= 0",
    ),
    "training_epochs_measured": (
        "training_epochs",
        "train_loss BETWEEN -1e300 AND 1e300 AND validation_loss BETWEEN -1e300 AND 1e300 "
        "AND learning_rate BETWEEN 0 AND 1e15 AND seconds BETWEEN 0 AND 1e15 "
        "AND images_per_s BETWEEN 1e-15 AND 1e15",
    ),
}  # fmt: skip


def upgrade() -> None:
    for name, (table, condition) in CHECKS.items():
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")


def downgrade() -> None:
    for name, (table, _) in CHECKS.items():
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
