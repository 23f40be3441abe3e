"""counts of changed jobs without a join of what changed with itself

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Whether an update changes any count was asked by joining its rows before and after; where no
# state changed, as when a waiting sweep is extended, the planner took the product of both.
JOINED = "SELECT FROM old_jobs o JOIN new_jobs n USING (id) WHERE o.status <> n.status"
SUMMED = """SELECT FROM (
        SELECT sweep_id, group_index, status, 1 AS change FROM new_jobs
        UNION ALL SELECT sweep_id, group_index, status, -1 FROM old_jobs
    ) changes GROUP BY sweep_id, group_index, status HAVING sum(change) <> 0"""
REPLACE = """
DO $do$ BEGIN
    EXECUTE replace(pg_get_functiondef('count_changed_jobs'::regproc), $before$%s$before$, $after$%s$after$);
END $do$
"""


def upgrade() -> None:
    op.execute(REPLACE % (JOINED, SUMMED))


def downgrade() -> None:
    op.execute(REPLACE % (SUMMED, JOINED))
