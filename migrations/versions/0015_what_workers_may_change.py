"""rules for the roles of workers and dispatchers: finished work does not change

Column grants (migrations/grants.py) say which columns a role may write, these rules say in which
rows. The owner of the tables, and with it the embedded cluster, is not restricted.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# the counts that triggers keep change with the owner's rights, so no other role needs to write them
COUNTING = ("count_new_jobs", "count_changed_jobs", "count_environments")

MEASURED = (
    "trials_done", "accuracy", "accuracy_sd", "accuracy_min", "accuracy_max", "train_accuracy",
    "throughput", "throughput_min", "throughput_max", "throughput_measured", "fit_s",
    "environment_id", "reason", "error", "finished_at",
)  # fmt: skip
TRAINED = (
    "parameters", "epochs_done", "note", "error", "weights", "environment_id", "finished_at",
)  # fmt: skip


def _same(columns: tuple[str, ...]) -> str:
    before, after = (", ".join(f"{row}.{name}" for name in columns) for row in ("OLD", "NEW"))
    return f"(({before}) IS NOT DISTINCT FROM ({after}))"


# What a role that does work may change, by table; the WHEN of a trigger costs no function call.
ALLOWED = {
    "jobs": f"""(OLD.status = 'running' AND NEW.status <> 'cancelled')
        OR (OLD.status = 'pending' AND NEW.status = 'running' AND {_same(MEASURED)})""",
    "trainings": f"""(OLD.status = 'running' AND NEW.status <> 'cancelled')
        OR (OLD.status = 'pending' AND NEW.status IN ('pending', 'running') AND {_same(TRAINED)})""",
    "leases": "OLD.ended_at IS NULL",
    "environments": "NEW.fingerprint = OLD.fingerprint",
}
REFUSE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied: % may not change finished work in %', current_user,
        TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$
"""
REFUSE_UNLESS = """
CREATE TRIGGER keep_finished BEFORE UPDATE ON {table} FOR EACH ROW
    WHEN (current_user IN ('convsweep_worker', 'convsweep_dispatcher') AND NOT ({allowed}))
    EXECUTE FUNCTION refuse_change()
"""
# A sweep's dataset is pinned once, and its state becomes 'completed' once no job is left.
KEEP_SWEEP = """
CREATE FUNCTION keep_sweep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.dataset_hash IS NULL OR NEW.dataset_hash IS NOT DISTINCT FROM OLD.dataset_hash)
        AND ((NEW.status, NEW.updated_at, NEW.completed_at)
            IS NOT DISTINCT FROM (OLD.status, OLD.updated_at, OLD.completed_at) OR (
            OLD.status IN ('running', 'paused') AND NEW.status = 'completed' AND EXISTS (
                SELECT FROM sweep_progress p
                WHERE p.sweep_id = OLD.id AND p.pending = 0 AND p.running = 0
            )
        ))
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'permission denied: % may not change sweeps like this', current_user
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER keep_sweep BEFORE UPDATE ON sweeps FOR EACH ROW
    WHEN (current_user IN ('convsweep_worker', 'convsweep_dispatcher'))
    EXECUTE FUNCTION keep_sweep();
"""
# Row security sees the job as it was when the statement began: its completion is the same statement.
ONLY_OF_RUNNING = {
    "trials": "EXISTS (SELECT FROM jobs j WHERE j.id = job_id AND j.status = 'running')",
    "training_epochs": "EXISTS (SELECT FROM trainings t WHERE t.id = training_id"
    " AND t.status = 'running')",
}


def upgrade() -> None:
    for function in COUNTING:
        op.execute(f"ALTER FUNCTION {function}() SECURITY DEFINER")
        op.execute(f"ALTER FUNCTION {function}() SET search_path = public, pg_temp")
    op.execute(REFUSE)
    for table, allowed in ALLOWED.items():
        op.execute(REFUSE_UNLESS.format(table=table, allowed=allowed))
    op.execute(KEEP_SWEEP)
    for table, running in ONLY_OF_RUNNING.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY reading ON {table} FOR SELECT USING (true)")
        op.execute(f"CREATE POLICY adding ON {table} FOR INSERT WITH CHECK ({running})")
        op.execute(f"CREATE POLICY deleting ON {table} FOR DELETE USING ({running})")


def downgrade() -> None:
    for table in ONLY_OF_RUNNING:
        for policy in ("reading", "adding", "deleting"):
            op.execute(f"DROP POLICY {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("DROP TRIGGER keep_sweep ON sweeps")
    op.execute("DROP FUNCTION keep_sweep")
    for table in ALLOWED:
        op.execute(f"DROP TRIGGER keep_finished ON {table}")
    op.execute("DROP FUNCTION refuse_change")
    for function in COUNTING:
        op.execute(f"ALTER FUNCTION {function}() SECURITY INVOKER RESET ALL")
