"""timings with the state of their device, references of each device, and timings to make again

A timing names its unit (one GPU, one machine's processor) and the state that this was in. Workers time
a set of reference networks in between; where these show that the unit changed its speed, the timings
of the interval no longer count, and are wanted again.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

INVALIDATIONS = "invalidated IN ('drift')"
REASONS = "reason IN ('drift', 'throttled', 'bridge')"
MEASURED = (
    "1e-15 <= ALL(images_per_s) AND 1e15 >= ALL(images_per_s) AND speed_change BETWEEN -1 AND 1e15"
)

# A total is computed job by job: planned as one join, an empty table's plan would read all timings.
TOTAL = """
CREATE OR REPLACE FUNCTION total_throughputs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM throughputs t USING added JOIN environments e ON e.id = added.environment_id
    WHERE added.invalidated IS NOT NULL AND t.job_id = added.job_id AND t.device = e.device
        AND NOT EXISTS (
            SELECT FROM timings m JOIN environments f ON f.id = m.environment_id
            WHERE m.job_id = t.job_id AND f.device = t.device AND m.invalidated IS NULL
        );
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
        WHERE t.job_id = changed.job_id AND e.device = changed.device AND t.invalidated IS NULL
    ) total
    WHERE total.middle IS NOT NULL
    ORDER BY changed.job_id, changed.device
    ON CONFLICT (job_id, device) DO UPDATE SET throughput = excluded.throughput,
        throughput_min = excluded.throughput_min, throughput_max = excluded.throughput_max,
        throughput_measured = excluded.throughput_measured;
    RETURN NULL;
END $$;
CREATE TRIGGER total_changed_throughputs AFTER UPDATE ON timings
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION total_throughputs();
"""
UNCOUNT = """
CREATE FUNCTION uncount_timed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE sweep_devices kept SET timed = kept.timed - gone.timed
    FROM (SELECT sweep_id, device, count(*)::int AS timed FROM removed GROUP BY 1, 2) gone
    WHERE kept.sweep_id = gone.sweep_id AND kept.device = gone.device;
    RETURN NULL;
END $$;
CREATE TRIGGER uncount_timed AFTER DELETE ON throughputs
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION uncount_timed();
"""
# Networks whose timing was made anew often enough keep the last one. Their jobs are pending again
# unless they run, and a sweep that was complete runs again.
INVALIDATE = """
CREATE FUNCTION invalidate_timings(of_unit text, since timestamptz, until timestamptz, most int)
RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    changed bigint[];
    models text[];
    sweeps_changed bigint[];
BEGIN
    WITH doubted AS (
        SELECT t.id, j.id AS job_id FROM timings t
        JOIN jobs j ON j.id = t.job_id JOIN sweeps s ON s.id = j.sweep_id
        WHERE t.unit = of_unit AND t.finished_at > since AND t.finished_at <= until
            AND t.invalidated IS NULL AND s.status <> 'cancelled'
            AND (SELECT count(*) FROM timings o WHERE o.job_id = t.job_id AND o.unit = t.unit
                 AND o.invalidated IS NOT NULL) < most
        ORDER BY j.id FOR UPDATE OF j
    ), marked AS (
        UPDATE timings t SET invalidated = 'drift' FROM doubted, environments e
        WHERE t.id = doubted.id AND e.id = t.environment_id
        RETURNING t.job_id, e.device
    )
    SELECT array_agg(job_id), array_agg(device) INTO changed, models FROM marked;
    IF changed IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO wanted_timings (job_id, device, reason)
    SELECT DISTINCT job_id, device, 'drift' FROM unnest(changed, models) AS u(job_id, device)
    ORDER BY job_id, device ON CONFLICT DO NOTHING;
    WITH again AS (
        UPDATE jobs SET status = 'pending', attempt = 0, reason = NULL
        WHERE id = ANY(changed) AND (status = 'completed'
            OR (status = 'rejected' AND reason = 'throughput_below_minimum'))
        RETURNING sweep_id, group_index
    ), hinted AS (
        UPDATE groups g SET hinted_at = NULL FROM (SELECT DISTINCT * FROM again) a
        WHERE g.sweep_id = a.sweep_id AND g.index = a.group_index
    )
    SELECT array_agg(DISTINCT sweep_id) INTO sweeps_changed FROM again;
    UPDATE sweeps SET status = 'running', completed_at = NULL, updated_at = clock_timestamp()
    WHERE id = ANY(sweeps_changed) AND status = 'completed';
    RETURN cardinality(changed);
END $$;
REVOKE EXECUTE ON FUNCTION invalidate_timings FROM PUBLIC;
"""


def upgrade() -> None:
    op.add_column("timings", sa.Column("unit", sa.Text()))
    op.add_column("timings", sa.Column("conditions", JSONB()))
    op.add_column("timings", sa.Column("invalidated", sa.Text()))
    op.create_check_constraint("timings_invalidated", "timings", INVALIDATIONS)
    op.create_index(
        "timings_of_unit",
        "timings",
        ["unit", "finished_at"],
        postgresql_where=sa.text("invalidated IS NULL"),
    )
    op.create_table(
        "reference_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("worker_id", sa.Uuid(), sa.ForeignKey("workers.id"), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("device_class", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("versions", JSONB(), nullable=False),
        sa.Column("reference_version", sa.SmallInteger(), nullable=False),
        sa.Column("images_per_s", ARRAY(sa.Float()), nullable=False),
        sa.Column("conditions", JSONB(), nullable=False),
        sa.Column("speed_change", sa.Float()),
        sa.Column("invalidated", sa.Integer(), nullable=False, server_default="0"),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
        sa.CheckConstraint(MEASURED, name="reference_runs_measured"),
    )  # fmt: skip
    op.create_index("reference_runs_of_unit", "reference_runs", ["unit", "finished_at"])
    op.create_table(
        "wanted_timings",
        sa.Column(
            "job_id", sa.BigInteger(), sa.ForeignKey("jobs.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("device", sa.Text(), primary_key=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(REASONS, name="wanted_timings_reason"),
    )  # fmt: skip
    op.execute(TOTAL)
    op.execute(UNCOUNT)
    op.execute(INVALIDATE)


def downgrade() -> None:
    op.execute("DROP FUNCTION invalidate_timings")
    op.execute("DROP TRIGGER uncount_timed ON throughputs")
    op.execute("DROP FUNCTION uncount_timed")
    op.execute("DROP TRIGGER total_changed_throughputs ON timings")
    op.drop_table("wanted_timings")
    op.drop_table("reference_runs")
    op.drop_index("timings_of_unit", table_name="timings")
    for column in ("invalidated", "conditions", "unit"):
        op.drop_column("timings", column)
    op.execute(BEFORE)


# as 0018 made it
BEFORE = """
CREATE OR REPLACE FUNCTION total_throughputs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
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
"""
