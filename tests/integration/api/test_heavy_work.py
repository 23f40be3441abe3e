"""Previews, analyses and plots slow no other request: bounded in number, time and memory."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.app import create_app
from api.computing.places import Places
from api.computing.pool import MAX_OF_CLIENT, MAX_UNDER_WAY, ComputingPool
from api.computing.process import NICENESS
from api.middleware.costs import COMPUTED, STREAMED, cost_of, is_computed
from shared.domain.access import KeyScope
from shared.domain.errors import BusyError, TooLargeError, UnavailableError
from shared.settings import Settings
from tests.conftest import serving
from tests.integration.access.test_access import LOCKED, bearer, make_key
from tests.integration.api import heavy_tasks
from tests.integration.api.test_api import assert_problem
from tests.integration.listings import add_results
from tests.integration.scenario import add_sweep

SLOW = {  # ten million architectures, a few seconds
    "space": {"layers": [{"channels": list(range(1, 3163))}] * 2},
    "protocol": {"dataset": "digits", "input_shape": [1, 32, 32]},
}


def ask_preview(url: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{url}/v1/sweeps/preview", json=SLOW, headers=headers, timeout=120)


def test_one_key_fills_its_own_places_and_leaves_others_their_turn(
    migrated: Settings, session: Session
) -> None:
    greedy, other = (bearer(make_key(session, KeyScope.READ)) for _ in range(2))
    locked = migrated.model_copy(update=LOCKED | {"api_compute_s": 5.0})
    with serving(locked) as url, ThreadPoolExecutor(2 * MAX_OF_CLIENT) as pool:
        asked = [pool.submit(ask_preview, url, greedy) for _ in range(2 * MAX_OF_CLIENT)]
        time.sleep(1)
        path = f"{url}/v1/sweeps/preview"
        theirs = httpx.post(path, json={"preset": "quick"}, headers=other, timeout=60)
        assert theirs.status_code in (200, 503)  # it waits, and is not refused
        answers = [one.result() for one in asked]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == MAX_OF_CLIENT
    for answer in refused:
        assert_problem(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) > 0


def test_health_is_answered_while_keys_wait_and_all_processes_compute(
    migrated: Settings, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    locked = migrated.model_copy(update=LOCKED | {"api_connections": 4, "api_compute_s": 8.0})
    with serving(locked) as url, ThreadPoolExecutor(60) as pool:
        computing = [pool.submit(ask_preview, url, key) for _ in range(4)]
        time.sleep(1)
        session.execute(text("LOCK TABLE api_keys"))  # every request with a key now waits
        waiting = [
            pool.submit(httpx.get, f"{url}/v1/sweeps", headers=key, timeout=60) for _ in range(50)
        ]
        time.sleep(1)
        for path in ("/healthz", "/readyz"):
            started = time.monotonic()
            assert httpx.get(url + path).status_code == 200
            assert time.monotonic() - started < 1
        session.rollback()
        assert {one.result().status_code for one in waiting} <= {200, 503}
        assert {one.result().status_code for one in computing} <= {200, 503}


def test_plots_use_no_connection_of_other_requests(migrated: Settings, session: Session) -> None:
    sweep_id = add_results(session)
    with (
        serving(migrated.model_copy(update={"api_connections": 1})) as url,
        ThreadPoolExecutor(6) as pool,
    ):
        plot = f"{url}/v1/sweeps/{sweep_id}/plots/parallel.png"
        plots = [pool.submit(httpx.get, plot, timeout=60) for _ in range(6)]
        while not all(one.done() for one in plots):
            assert httpx.get(f"{url}/v1/sweeps", timeout=60).status_code == 200
            time.sleep(0.05)
        assert {one.result().status_code for one in plots} == {200}


def compute(settings: Settings, task: Any, *arguments: Any) -> bytes:
    """Runs one task in a pool of its own event loop."""

    async def run() -> bytes:
        return await ComputingPool(settings).run("me", task, *arguments)

    return asyncio.run(run())


def test_work_that_takes_too_long_ends_with_its_answer(migrated: Settings, tmp_path: Path) -> None:
    impatient = migrated.model_copy(update={"api_compute_s": 3.0})
    note = tmp_path / "pid"
    with pytest.raises(UnavailableError, match="No result came in 3 s"):
        compute(impatient, heavy_tasks.sleep_as, str(note))
    deadline = time.monotonic() + 5
    while psutil.pid_exists(int(note.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_work_that_needs_too_much_memory_is_refused(migrated: Settings) -> None:
    with pytest.raises(TooLargeError, match="more than 2 GiB"):
        compute(migrated, heavy_tasks.allocate, 3 * 2**30)


def test_processes_that_compute_give_way_to_others(migrated: Settings) -> None:
    assert int(compute(migrated, heavy_tasks.own_niceness)) >= NICENESS


def test_an_error_of_the_database_crosses_the_process(migrated: Settings, session: Session) -> None:
    nowhere = migrated.model_copy(
        update={"database_url": "postgresql+psycopg2://unknown@127.0.0.1:1/none"}
    )
    with serving(nowhere) as url:
        answer = httpx.get(f"{url}/v1/sweeps/1/analysis/pareto", timeout=30)
        assert_problem(answer, 503, "unavailable")


def test_places_end_in_total_and_per_client_and_come_back() -> None:
    places = Places("plots", total=3, per_client=2)
    first, second = places.take("a"), places.take("a")
    with first, places.take("b"):
        with second:
            with pytest.raises(BusyError, match="This client has 2 plots"), places.take("a"):
                pass
            with pytest.raises(BusyError, match="This API has 3 plots"), places.take("c"):
                pass
        with places.take("c"):
            pass


def test_one_client_cannot_take_every_event_stream(migrated: Settings, session: Session) -> None:
    sweep_id = add_sweep(session)
    few = migrated.model_copy(update={"api_streams_of_client": 2})
    with serving(few) as url, httpx.Client(base_url=url, timeout=30) as client:
        path = f"/v1/sweeps/{sweep_id}/events"
        with client.stream("GET", path) as first, client.stream("GET", path) as second:
            assert {first.status_code, second.status_code} == {200}
            assert_problem(client.get(path), 429, "busy")
        deadline = time.monotonic() + 10
        while True:  # the server notices the ends a moment later
            with client.stream("GET", path) as again:
                if again.status_code == 200:
                    break
            assert time.monotonic() < deadline


def heavy_routes() -> Iterator[str]:
    """Yields a path of each route that computes or exports, by the errors it describes."""
    document = create_app(Settings()).openapi()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            examples = operation["responses"].get("429", {}).get("content", {})
            problem = examples.get("application/problem+json", {}).get("examples", {})
            if "busy" in problem and not path.endswith("/events"):
                yield path


def test_every_heavy_route_costs_more_than_one_request_and_no_other_does() -> None:
    filled = {path: cost_of(_fill(path)) for path in create_app(Settings()).openapi()["paths"]}
    costly = {path for path, cost in filled.items() if cost > 1}
    assert costly == set(heavy_routes())
    used = {
        pattern
        for pattern, _ in (*COMPUTED, *STREAMED)
        if any(pattern.fullmatch(_fill(path)) for path in filled)
    }
    assert len(used) == len(COMPUTED) + len(STREAMED)
    assert {path for path in costly if not is_computed(_fill(path))} == {
        "/v1/sweeps/{sweep_id}/export.{form}"
    }


def _fill(path: str) -> str:
    values = dict.fromkeys(("sweep_id", "job_id", "other_id", "training_id"), "1")
    words = dict.fromkeys(("kind", "form", "file_format", "table_format", "action", "prefix"), "x")
    return path.format(**values, **words)


def test_the_whole_pool_holds_more_than_one_client_may_take() -> None:
    assert MAX_UNDER_WAY >= 2 * MAX_OF_CLIENT
