"""An API that is killed, asked twice, or out of connections: all of a sweep or nothing, once."""

import concurrent.futures
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from convsweep import ApiError, Client
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import Answers, broken, check
from tests.acceptance.faults.site import Child, Postgres, Site, measured
from tests.conftest import free_port

IMAGES = 100
PUBLISHED = {"preset": "random-cnn-2025"}
TOTAL = 46_656


def start_api(site: Site) -> tuple[Child, str]:
    """Starts the API and returns it with its address when it answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    api = site.start("api", CONVSWEEP_API_PORT=str(port))

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    site.wait(ready, "the API's start")
    return api, url


def _jobs_underway(site: Site) -> bool:
    statement = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active'
            AND ltrim(query, E' \\n') LIKE 'COPY jobs%'
    """
    return bool(site.rows(statement))


def test_an_api_killed_in_the_middle_of_a_post_leaves_all_of_a_sweep_or_nothing(
    site: Site,
) -> None:
    api, url = start_api(site)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        post = pool.submit(httpx.post, f"{url}/v1/sweeps", json=PUBLISHED, timeout=60)
        site.wait(lambda: _jobs_underway(site) or post.done(), "the writing of jobs")
        api.kill()
        with pytest.raises(httpx.TransportError):
            post.result()
    site.wait(lambda: not _jobs_underway(site), "the end of the transaction")
    left = {row.id for row in site.rows("SELECT id FROM sweeps")}
    assert left == set()
    for table in ("jobs", "groups", "sweep_progress"):
        assert site.rows(f"SELECT count(*) AS n FROM {table}")[0].n == 0
    _, url = start_api(site)
    created = httpx.post(f"{url}/v1/sweeps", json=PUBLISHED, timeout=60)
    assert created.status_code == 201
    assert broken(site.database, created.json()["id"], ended=False) == []
    assert created.json()["counts"]["pending"] == TOTAL


@pytest.mark.faults
def test_a_post_repeated_with_its_key_makes_one_sweep_also_when_the_api_was_killed(
    site: Site, undisturbed: Answers
) -> None:
    key = {"Idempotency-Key": "once"}
    api, url = start_api(site)

    def post(body: dict[str, Any] | None = None) -> httpx.Response:
        wanted = body or small_sweep()
        return httpx.post(f"{url}/v1/sweeps", json=wanted, headers=key, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(lambda _: post(), range(8)))
    assert {answer.status_code for answer in answered} == {201}
    assert len({answer.json()["id"] for answer in answered}) == 1
    api.kill()
    _, url = start_api(site)
    assert post().json()["id"] == answered[0].json()["id"]
    assert post(small_sweep(seed=1)).status_code == 409
    assert len(site.rows("SELECT FROM sweeps")) == 1
    sweep_id = int(answered[0].json()["id"])
    site.start_dispatcher()
    site.start_worker()
    site.wait_completed(sweep_id)
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_an_api_out_of_connections_answers_503_in_time_and_recovers(site: Site) -> None:
    _, url = start_api(site)
    sweep_id = site.add_sweep(small_sweep())
    address = f"{url}/v1/sweeps/{sweep_id}"
    with site.database.connect() as holder, concurrent.futures.ThreadPoolExecutor(40) as pool:
        holder.execute(text("LOCK TABLE sweeps IN ACCESS EXCLUSIVE MODE"))
        asked = time.monotonic()
        pending = [pool.submit(httpx.get, address, timeout=50) for _ in range(40)]
        answers = [one.result() for one in pending]
        measured("503 from an API without connections", time.monotonic() - asked)
        assert httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert {answer.json()["code"] for answer in answers} == {"unavailable"}
    assert httpx.get(address, timeout=50).status_code == 200


def test_a_client_that_reads_waits_out_a_postgres_restart(site: Site, postgres: Postgres) -> None:
    _, url = start_api(site)
    sweep_id = site.add_sweep(small_sweep())
    with Client(url) as client, concurrent.futures.ThreadPoolExecutor(1) as pool:
        postgres.stop("fast")
        assert httpx.get(f"{url}/v1/sweeps/{sweep_id}", timeout=50).status_code == 503
        with pytest.raises(ApiError) as refused:  # what writes is never asked twice
            client.control_sweep(sweep_id, "pause")
        assert refused.value.status == 503
        asked = pool.submit(client.get_sweep, sweep_id)
        time.sleep(1)
        assert not asked.done()
        postgres.start()
        assert asked.result()["status"] == "running"
