"""timings of their own, and a throughput per job and device model

A timing was part of a trial, and a job had one throughput, that of the device that measured last.
Timings now have a table, and triggers total them by job and device model, whoever writes them.
What workers of the release before write with their trials is copied by a trigger, too; its columns
in jobs and trials go one release later.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SOURCES = "source IN ('measured', 'replayed', 'screened')"
MEASURED = {
    "timings": "images_per_s BETWEEN 1e-15 AND 1e15 AND spread BETWEEN 0 AND 1e15 AND runs >= 0",
    "throughputs": (
        "throughput BETWEEN 1e-15 AND 1e15 AND throughput_min BETWEEN 1e-15 AND 1e15 "
        "AND throughput_max BETWEEN 1e-15 AND 1e15"
    ),
}
# A total is computed job by job: planned as one join, an empty table's plan would read all timings.
TOTAL = """
CREATE FUNCTION total_throughputs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO throughputs (job_id, device, sweep_id, throughput, throughput_min, throughput_max,
        throughput_measured)
    SELECT changed.job_id, changed.device, j.sweep_id, total.middle, total.least, total.greatest,
        total.measured
    FROM (
        SELECT DISTINCT added.job_id, e.device
        FROM added JOIN environments e ON e.id = added.environment_id
    ) changed
    JOIN jobs j ON j.id = changed.job_id
    CROSS JOIN LATERAL (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t.images_per_s) AS middle,
            min(t.images_per_s) AS least, max(t.images_per_s) AS greatest,
            bool_and(t.source <> 'screened') AS measured
        FROM timings t JOIN environments e ON e.id = t.environment_id
        WHERE t.job_id = changed.job_id AND e.device = changed.device
    ) total
    ORDER BY changed.job_id, changed.device
    ON CONFLICT (job_id, device) DO UPDATE SET throughput = excluded.throughput,
        throughput_min = excluded.throughput_min, throughput_max = excluded.throughput_max,
        throughput_measured = excluded.throughput_measured;
    RETURN NULL;
END $$;
CREATE TRIGGER total_throughputs AFTER INSERT ON timings
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION total_throughputs();
"""
COUNT = """
CREATE FUNCTION count_timed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO sweep_devices AS kept (sweep_id, device, timed)
    SELECT sweep_id, device, count(*)::int FROM added GROUP BY sweep_id, device
    ORDER BY sweep_id, device
    ON CONFLICT (sweep_id, device) DO UPDATE SET timed = kept.timed + excluded.timed;
    RETURN NULL;
END $$;
CREATE TRIGGER count_timed AFTER INSERT ON throughputs
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_timed();
"""
OF_TRIALS = """
    SELECT job_id, trial, environment_id, images_per_s, images_per_s_spread, timing_runs,
        coalesce(throughput_source, 'measured'), attempt, finished_at
"""
COLUMNS = "job_id, trial, environment_id, images_per_s, spread, runs, source, attempt, finished_at"
COPY_OLD = f"""
CREATE FUNCTION copy_timing() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO timings ({COLUMNS}) {OF_TRIALS} FROM (SELECT NEW.*) added;
    RETURN NULL;
END $$;
CREATE TRIGGER copy_timing AFTER INSERT ON trials FOR EACH ROW
    WHEN (NEW.images_per_s IS NOT NULL) EXECUTE FUNCTION copy_timing();
"""
RUNNING = "EXISTS (SELECT FROM jobs j WHERE j.id = job_id AND j.status = 'running')"


def _number(name: str, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def _job(*, primary_key: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey("jobs.id", ondelete="CASCADE")
    return sa.Column("job_id", sa.BigInteger(), key, nullable=False, primary_key=primary_key)


def upgrade() -> None:
    op.create_table(
        "timings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        _job(),
        sa.Column("trial", sa.SmallInteger()),
        sa.Column(
            "environment_id", sa.BigInteger(), sa.ForeignKey("environments.id"), nullable=False
        ),
        _number("images_per_s"),
        _number("spread", nullable=True),
        sa.Column("runs", sa.Integer()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
        sa.UniqueConstraint("job_id", "trial", name="timings_of_trial"),
        sa.CheckConstraint(SOURCES, name="timings_source"),
        sa.CheckConstraint(MEASURED["timings"], name="timings_measured"),
    )  # fmt: skip
    op.create_table(
        "throughputs",
        _job(primary_key=True),
        sa.Column("device", sa.Text(), primary_key=True),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        *map(_number, ("throughput", "throughput_min", "throughput_max")),
        sa.Column("throughput_measured", sa.Boolean(), nullable=False),
        sa.CheckConstraint(MEASURED["throughputs"], name="throughputs_measured"),
    )
    op.create_table(
        "sweep_devices",
        sa.Column(
            "sweep_id", sa.BigInteger(), sa.ForeignKey("sweeps.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("device", sa.Text(), primary_key=True),
        sa.Column("timed", sa.Integer(), nullable=False),
    )  # fmt: skip
    op.execute(COUNT)
    op.execute(TOTAL)
    op.execute(COPY_OLD)
    op.execute(
        f"INSERT INTO timings ({COLUMNS}) {OF_TRIALS} FROM trials WHERE images_per_s IS NOT NULL"
    )
    op.create_index(
        "throughputs_ranked",
        "throughputs",
        ["sweep_id", "device", sa.literal_column("throughput DESC NULLS LAST"), "job_id"],
    )
    _reindex(["environment_id"])
    op.drop_index("jobs_ranked_by_throughput", table_name="jobs")
    op.execute("ALTER TABLE timings ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY reading ON timings FOR SELECT USING (true)")
    op.execute(f"CREATE POLICY adding ON timings FOR INSERT WITH CHECK ({RUNNING})")


def _reindex(included: list[str]) -> None:
    """Makes the index of accuracies anew, with other columns beside."""
    op.drop_index("jobs_ranked_by_accuracy", table_name="jobs")
    _ranked("jobs_ranked_by_accuracy", "accuracy", included)


def _ranked(name: str, column: str, included: list[str]) -> None:
    op.create_index(
        name,
        "jobs",
        ["sweep_id", sa.literal_column(f"{column} DESC NULLS LAST"), "id"],
        postgresql_include=included,
        postgresql_where=sa.text("trials_done > 0 AND status <> 'rejected'"),
    )


def downgrade() -> None:
    _reindex(["throughput", "environment_id"])
    _ranked("jobs_ranked_by_throughput", "throughput", ["accuracy", "environment_id"])
    op.execute("DROP TRIGGER copy_timing ON trials")
    for table in ("timings", "throughputs", "sweep_devices"):
        op.drop_table(table)
    for function in ("copy_timing", "total_throughputs", "count_timed"):
        op.execute(f"DROP FUNCTION {function}")
