"""What must hold in the database after every fault, asked in SQL that only reads.

``broken`` names each promise that does not hold; ``differing`` compares a sweep's answers, bit by
bit, with those of an undisturbed run.
"""

from sqlalchemy import Engine, text

# A job that runs by itself instead of with its siblings shares no batch with them, and the last
# bits of its sums may round the other way; so a picture on the edge may fall to another class.
TOLERANCE = 0.001  # of all images

JOBS_LOST = """
    SELECT s.total, count(j.id) AS jobs, count(DISTINCT j.architecture_hash) AS architectures,
           count(DISTINCT j.space_index) AS places, min(j.space_index), max(j.space_index)
    FROM sweeps s LEFT JOIN jobs j ON j.sweep_id = s.id WHERE s.id = :id GROUP BY s.id
    HAVING count(j.id) <> s.total OR count(DISTINCT j.architecture_hash) <> s.total
        OR count(DISTINCT j.space_index) <> s.total
        OR min(j.space_index) <> 0 OR max(j.space_index) <> s.total - 1
"""
STATES_DO_NOT_ADD_UP = """
    SELECT kept.* FROM (
        SELECT p.sweep_id, s.total, state.name, state.jobs,
            sum(state.jobs) OVER () AS counted
        FROM sweep_progress p JOIN sweeps s ON s.id = p.sweep_id CROSS JOIN LATERAL (VALUES
            ('pending', p.pending), ('running', p.running), ('completed', p.completed),
            ('invalid', p.invalid), ('rejected', p.rejected), ('failed', p.failed),
            ('cancelled', p.cancelled)) AS state(name, jobs)
        WHERE p.sweep_id = :id
    ) kept WHERE kept.counted <> kept.total OR kept.jobs <>
        (SELECT count(*) FROM jobs j WHERE j.sweep_id = :id AND j.status = kept.name)
"""
GROUPS_MISCOUNTED = """
    SELECT g.index, g.pending, count(j.id) FROM groups g
    LEFT JOIN jobs j ON j.sweep_id = g.sweep_id AND j.group_index = g.index
        AND j.status = 'pending'
    WHERE g.sweep_id = :id GROUP BY g.sweep_id, g.index HAVING g.pending <> count(j.id)
"""
TRIALS_TWICE_OR_MISSING = """
    SELECT j.id, j.status, j.trials_done, count(t.trial), min(t.trial), max(t.trial)
    FROM jobs j LEFT JOIN trials t ON t.job_id = j.id WHERE j.sweep_id = :id GROUP BY j.id
    HAVING count(t.trial) <> j.trials_done OR count(DISTINCT t.trial) <> j.trials_done
        OR max(t.trial) <> j.trials_done - 1 OR min(t.trial) <> 0
        OR (j.status = 'completed' AND j.trials_done <> j.trials_target)
        OR (j.status = 'invalid' AND j.trials_done <> 0)
"""
TOTALS_DIFFER_FROM_TRIALS = """
    SELECT j.id FROM jobs j JOIN trials t ON t.job_id = j.id WHERE j.sweep_id = :id GROUP BY j.id
    HAVING abs(j.accuracy - avg(t.accuracy)) > 1e-9
        OR abs(j.train_accuracy - avg(t.train_accuracy)) > 1e-9
        OR j.accuracy_min <> min(t.accuracy) OR j.accuracy_max <> max(t.accuracy)
        OR abs(j.accuracy_sd - stddev_samp(t.accuracy)) > 1e-9
        OR (j.accuracy_sd IS NULL) <> (count(*) = 1)
"""
ACCURACY_IS_NOT_ITS_BITS = """
    SELECT j.id, t.trial, t.accuracy FROM jobs j JOIN trials t ON t.job_id = j.id
    JOIN sweeps s ON s.id = j.sweep_id
    WHERE s.id = :id AND abs(t.accuracy * CAST(s.protocol ->> 'validation_images' AS float8)
                             - bit_count(t.correct_bits)) > 1e-3
"""
FAILED_WITHOUT_REASON = """
    SELECT id, reason, error FROM jobs
    WHERE sweep_id = :id AND status = 'failed' AND (reason IS NULL OR error IS NULL)
"""
MORE_ATTEMPTS_THAN_LEASES = """
    SELECT attempted.*, leased.jobs FROM
        (SELECT group_index, sum(attempt) AS attempts FROM jobs WHERE sweep_id = :id
         GROUP BY group_index) attempted
    LEFT JOIN
        (SELECT group_index, sum(jobs) AS jobs FROM leases
         WHERE sweep_id = :id AND outcome IS DISTINCT FROM 'released' GROUP BY group_index) leased
    USING (group_index)
    WHERE attempts <> coalesce(leased.jobs, 0)
"""
RETRIES_UNEXPLAINED = """
    SELECT j.id, j.status, j.attempt, count(a.attempt), max(a.attempt) FROM jobs j
    LEFT JOIN attempts a ON a.job_id = j.id AND a.outcome <> 'released'
    WHERE j.sweep_id = :id GROUP BY j.id
    HAVING count(a.attempt) <> j.attempt - (j.status = 'running')::int
        OR count(DISTINCT a.attempt) <> count(a.attempt)
        OR count(*) FILTER (WHERE a.outcome IN ('completed', 'invalid', 'rejected')) > 1
"""
STILL_OPEN = """
    SELECT s.status, j.id, j.status FROM sweeps s LEFT JOIN jobs j ON j.sweep_id = s.id
        AND j.status IN ('pending', 'running')
    WHERE s.id = :id AND (s.status IN ('running', 'paused') OR j.id IS NOT NULL)
"""
LEASES_LEFT = "SELECT token, worker_id FROM leases WHERE sweep_id = :id AND ended_at IS NULL"

ALWAYS = {
    "a job is lost": JOBS_LOST,
    "states do not add up": STATES_DO_NOT_ADD_UP,
    "a group is miscounted": GROUPS_MISCOUNTED,
    "a trial is missing or there twice": TRIALS_TWICE_OR_MISSING,
    "totals differ from trials": TOTALS_DIFFER_FROM_TRIALS,
    "an accuracy is not that of its bits": ACCURACY_IS_NOT_ITS_BITS,
    "a failure has no reason": FAILED_WITHOUT_REASON,
    "attempts differ from leases": MORE_ATTEMPTS_THAN_LEASES,
    "a retry is not explained": RETRIES_UNEXPLAINED,
}
AT_THE_END = {"a job has not ended": STILL_OPEN, "a lease is left": LEASES_LEFT}

Answers = dict[tuple[str, int], tuple[int, bytes]]


def broken(database: Engine, sweep_id: int, *, ended: bool = True) -> list[str]:
    """Returns what does not hold for a sweep, with the first rows that show it."""
    checks = ALWAYS | (AT_THE_END if ended else {})
    found = []
    with database.connect() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        for promise, statement in checks.items():
            rows = connection.execute(text(statement), {"id": sweep_id}).fetchmany(5)
            found += [f"{promise}: {rows}"] if rows else []
    return found


def answers(database: Engine, sweep_id: int) -> Answers:
    """Returns the seed and the right answers of every trial by (architecture hash, trial)."""
    statement = text("""
        SELECT encode(j.architecture_hash, 'hex') AS hash, t.trial, t.weights_seed, t.correct_bits
        FROM jobs j JOIN trials t ON t.job_id = j.id WHERE j.sweep_id = :id
    """)
    with database.connect() as connection:
        rows = connection.execute(statement, {"id": sweep_id})
        return {(row.hash, row.trial): (row.weights_seed, bytes(row.correct_bits)) for row in rows}


def differing(found: Answers, wanted: Answers, images: int) -> float:
    """Returns the share of images that one run got right and the other did not.

    Every trial of ``found`` must be among ``wanted``, with the same weights.
    """
    assert found.keys() <= wanted.keys(), found.keys() - wanted.keys()
    assert all(seed == wanted[key][0] for key, (seed, _) in found.items())
    bits = sum(_differing_bits(answer, wanted[key][1]) for key, (_, answer) in found.items())
    return bits / max(1, images * len(found))


def _differing_bits(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def check(
    database: Engine, sweep_id: int, undisturbed: Answers, images: int, *, missing: int = 0
) -> None:
    """Holds every promise for a sweep that has ended.

    ``missing`` says how many trials of the undisturbed run the fault took with it.
    """
    assert broken(database, sweep_id) == []
    found = answers(database, sweep_id)
    assert len(undisturbed) - len(found) == missing
    assert differing(found, undisturbed, images) <= TOLERANCE
