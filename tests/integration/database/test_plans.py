"""Query plans of the hot statements on a table with enough rows to matter."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session

from convsweep.filters import parse_assignments
from services.leaderboard.filters import parse_filters
from services.leaderboard.leaders import list_jobs, rank_jobs
from services.leasing.group_leases import complete_claim
from services.sweeps.reading import get_sweep
from shared.db.queries.exports.rows import find_id_range
from tests.integration.listings import DEVICES
from tests.integration.scenario import add_sweep, claimed, complete, environment, successes

ROWS = 30_000


@pytest.fixture
def big_sweep(session: Session) -> int:
    """A sweep with many results beside another, analysed."""
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id))
    held = claimed(session, sweep_id, 1)
    complete_claim(session, held, successes(held), environment(DEVICES[0]))
    session.execute(
        text("INSERT INTO jobs (sweep_id, space_index, group_index, architecture_hash, channels, "
             "kernel_size, stride, dilation, padding, activation, ratio, parameters, flops, "
             "status, trials_done, trials_target, accuracy, environment_id) "
             "SELECT :id, n, 0, sha256(CAST('x' || n AS bytea)), '{8,2}', '{3,5}', '{1,1}', "
             "'{1,1}', '{0,0}', '{relu,relu}', random(), n, n, 'completed', 1, 1, "
             "random_normal(0.3, 0.05), 1 FROM generate_series(1, :rows) n"),
        {"id": sweep_id, "rows": ROWS},
    )  # fmt: skip
    session.execute(
        text("INSERT INTO throughputs SELECT j.id, e.device, j.sweep_id, "
             "exp(random_normal(7, 1)), 1, 1e9, true "
             "FROM jobs j JOIN environments e ON e.id = j.environment_id "
             "WHERE j.id NOT IN (SELECT job_id FROM throughputs)")
    )  # fmt: skip
    session.execute(text("UPDATE sweep_environments SET completed = completed + 30000 "
                         "WHERE environment_id = 1"))  # fmt: skip
    session.commit()
    session.execute(text("ANALYZE"))
    session.commit()
    return sweep_id


@pytest.fixture
def plans(database: Engine) -> Iterator[list[str]]:
    """The plans of all statements that read jobs from now on, run by Postgres with its figures."""
    found: list[str] = []
    busy: list[bool] = []

    def explain(
        connection: Connection, cursor: object, statement: str, values: object, *_: object
    ) -> None:
        if busy or not re.search(r"\bFROM (jobs|sweep)", statement):
            return
        busy.append(True)
        rows = connection.exec_driver_sql("EXPLAIN (ANALYZE, COSTS OFF) " + statement, values)  # type: ignore[arg-type]
        found.append("\n".join(rows.scalars()))
        busy.clear()

    event.listen(database, "before_cursor_execute", explain)
    yield found
    event.remove(database, "before_cursor_execute", explain)


def test_hot_statements_use_their_indexes(
    big_sweep: int, session: Session, plans: list[str]
) -> None:
    def plan_of(where: str = "", **asked: Any) -> str:
        filters = parse_filters(parse_assignments(where.split()))
        rank_jobs(session, big_sweep, filters, page_size=50, **asked)
        return plans[-1]

    first = rank_jobs(session, big_sweep, page_size=1000)
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "jobs_ranked_by_accuracy"),
        ({"where": "accuracy=0.25.. throughput=1000.."}, "jobs_ranked_by_accuracy"),
        ({"page_token": first.next_page_token}, "jobs_ranked_by_accuracy"),
        ({"sort": "accuracy"}, "jobs_ranked_by_accuracy"),
        ({"sort": "-accuracy,throughput"}, "jobs_ranked_by_accuracy"),
        ({"sort": "-throughput"}, "throughputs_ranked"),
        ({"sort": "throughput", "where": "accuracy=0.3.."}, "throughputs_ranked"),
        ({"sort": "-fitness"}, "jobs_ranked_by_accuracy"),
        (
            {"sort": "-fitness", "where": "accuracy=0.3.. throughput=1000.."},
            "throughputs_ranked",
        ),
        ({"where": "kernel_size[0]=3 kernel_size[1]=5|7"}, "jobs_ranked_by_accuracy"),
    ]
    for asked, index in cases:
        plans.clear()
        plan = plan_of(**asked)
        assert index in plan, f"{asked}\n{plan}"
        assert "Seq Scan on jobs" not in "\n".join(plans), f"{asked}\n{plan}"


def test_the_fittest_and_the_best_of_a_layer_are_found_among_few(
    big_sweep: int, session: Session, plans: list[str]
) -> None:
    rank_jobs(session, big_sweep, sort="-fitness", page_size=50)
    filters = parse_filters([("kernel_size[0]", "3"), ("stride[1]", "1|2")])
    rank_jobs(session, big_sweep, filters, page_size=50)
    read = [int(rows) for plan in plans for rows in re.findall(r"actual .*?rows=(\d+)", plan)]
    assert max(read) < ROWS / 10, "\n".join(plans)


def test_what_else_is_asked_often_reads_few_rows(
    big_sweep: int, session: Session, plans: list[str]
) -> None:
    get_sweep(session, big_sweep)
    list_jobs(session, big_sweep, page_size=10)
    find_id_range(session, big_sweep)
    assert plans
    for plan in plans:
        assert "Seq Scan on jobs" not in plan, plan
    read = [int(rows) for plan in plans for rows in re.findall(r"actual .*?rows=(\d+)", plan)]
    assert max(read) <= 20, "\n".join(plans)
