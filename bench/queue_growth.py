"""What one job costs the database in tables of growing size."""

import statistics
import time
import uuid
from typing import Any

import httpx
import numpy as np
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from services.leasing.group_leases import claim_group, complete_claim
from services.monitoring.workers import register_worker
from shared.db.session import make_engine, make_session_factory
from shared.domain.measurements import Environment, JobOutcome, TrialResult
from shared.domain.status import JobStatus
from shared.settings import Settings

GROUP_JOBS = 36
GROUPS_MEASURED = 300
HERE = Environment("bench", "cpu", "bench", "digits", "00" * 32, {})


def space_of(rows: int) -> dict[str, Any]:
    """Returns a sweep of about ``size`` architectures in groups of 36."""
    last = {"kernel_size": [3, 5, 7, 9], "stride": [1, 2, 3], "dilation": [1, 2, 3]}
    middle = {"channels": list(range(1, 29))}
    first = {"channels": list(range(1, max(1, round(rows / 28 / GROUP_JOBS)) + 1))}
    protocol = {"dataset": "digits", "input_shape": [1, 96, 96], "trials": 1, "timing": None}
    return {"space": {"layers": [first, middle, last]}, "protocol": protocol}


def measure_growth(client: httpx.Client, settings: Settings, sizes: list[int]) -> list[Any]:
    """Seeds a sweep per size over HTTP, and returns what claiming and completing a job costs then.

    The table holds all sweeps so far, the largest and last of which makes up most of it.
    """
    engine = make_engine(settings, pool_size=1, ping_after_s=1.0)
    factory = make_session_factory(engine)
    worker_id = uuid.uuid4()
    with factory.begin() as session:
        register_worker(
            session, worker_id, hostname="bench", pid=0, device_class="cpu", device="bench",
            code_version="bench",
        )  # fmt: skip
    figures = []
    for size in sizes:
        started = time.perf_counter()
        answer = client.post("/v1/sweeps", json=space_of(size))
        seed_s = time.perf_counter() - started
        answer.raise_for_status()
        _settle(engine)
        cost = _job_ms(factory, worker_id, answer.json()["id"], answer.json()["total"])
        rows = answer.json()["total"]
        figures.append({"rows": rows, "seed_s": seed_s, "seed_rows_per_s": rows / seed_s, **cost})
    engine.dispose()
    return figures


def _settle(engine: Engine) -> None:
    """Does now what Postgres does by itself within a minute, so that it does not do it later."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        for statement in ("VACUUM (ANALYZE) jobs", "ANALYZE", "CHECKPOINT"):
            connection.execute(text(statement))


def _job_ms(
    factory: sessionmaker[Session], worker_id: uuid.UUID, sweep_id: int, total: int
) -> dict[str, float]:
    groups = np.random.default_rng(0).permutation(total // GROUP_JOBS)[:GROUPS_MEASURED]
    claims, completions = [], []
    for group in groups.tolist():
        times = _claim_and_complete(factory, worker_id, sweep_id, group)
        claims.append(1000 * times[0] / GROUP_JOBS)
        completions.append(1000 * times[1] / GROUP_JOBS)
    claim_ms, complete_ms = statistics.median(claims), statistics.median(completions)
    return {"claim_ms": claim_ms, "complete_ms": complete_ms, "job_ms": claim_ms + complete_ms}


def _claim_and_complete(
    factory: sessionmaker[Session], worker_id: uuid.UUID, sweep_id: int, group: int
) -> tuple[float, float]:
    started = time.perf_counter()
    with factory.begin() as session:
        claim = claim_group(
            session, sweep_id=sweep_id, group=group, worker_id=worker_id, lease_s=600, limit=64
        )
    claimed = time.perf_counter()
    assert claim is not None
    result = TrialResult(0, 0.5, 0.5, 0.0, weights_seed=0, correct_bits=bytes(63))
    outcomes = [JobOutcome(JobStatus.COMPLETED, trials=(result,)) for _ in claim.jobs]
    ready = time.perf_counter()
    with factory.begin() as session:
        complete_claim(session, claim, outcomes, HERE)
    return claimed - started, time.perf_counter() - ready
