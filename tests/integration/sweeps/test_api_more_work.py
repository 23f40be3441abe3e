"""Over HTTP: retrying, extending, idempotency keys, attempts, and a database that is too busy."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leasing.group_leases import fail_claim
from services.sweeps.control import cancel_sweep
from shared.settings import Settings
from tests.conftest import serving
from tests.integration.api.test_api import SMALL, assert_problem
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    add_worker,
    claimed,
    complete,
    finish_sweep,
)

TOTAL = GROUPS * GROUP_SIZE


@pytest.fixture
def api(api_url: str, session: Session) -> Iterator[httpx.Client]:
    """A client of the API on an empty database."""
    with httpx.Client(base_url=api_url, timeout=30) as client:
        yield client


def create(api: httpx.Client, key: str, body: dict[str, Any] | None = None) -> httpx.Response:
    return api.post("/v1/sweeps", json=body or SMALL, headers={"Idempotency-Key": key})


def test_same_key_and_body_get_the_same_answer(api: httpx.Client) -> None:
    first, second = create(api, "once"), create(api, "once")
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert len(api.get("/v1/sweeps").json()["sweeps"]) == 1


def test_same_key_and_another_body_is_a_conflict_that_creates_nothing(api: httpx.Client) -> None:
    create(api, "once")
    answer = create(api, "once", SMALL | {"name": "another"})
    body = assert_problem(answer, 409, "idempotency_key_reused")
    assert [error["field"] for error in body["errors"]] == ["Idempotency-Key"]
    assert len(api.get("/v1/sweeps").json()["sweeps"]) == 1


def test_other_keys_and_no_key_create_sweeps_of_their_own(api: httpx.Client) -> None:
    answers = [create(api, "a"), create(api, "b"), api.post("/v1/sweeps", json=SMALL)]
    assert len({answer.json()["id"] for answer in answers}) == 3


def test_same_request_many_times_at_once_creates_one_sweep(api: httpx.Client) -> None:
    barrier = threading.Barrier(6)

    def ask(_: int) -> tuple[int, int]:
        barrier.wait()
        answer = create(api, "once")
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1
    [sweep] = api.get("/v1/sweeps").json()["sweeps"]
    assert sweep["counts"]["pending"] == TOTAL


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "na\xefve"])
def test_key_that_is_empty_too_long_or_not_printable_is_refused(
    key: str, api: httpx.Client
) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    answer = api.post("/v1/sweeps", json=SMALL, headers=headers)  # type: ignore[arg-type]
    body = assert_problem(answer, 422, "invalid_input")
    assert [error["field"] for error in body["errors"]] == ["Idempotency-Key"]
    assert api.get("/v1/sweeps").json()["sweeps"] == []


def test_retry_answers_with_the_sweep_running_again(api: httpx.Client, session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    fail_claim(session, claimed(session, sweep_id), error="broke", max_attempts=1)
    session.commit()
    assert api.get(f"/v1/sweeps/{sweep_id}").json()["status"] == "completed"
    answer = api.post(f"/v1/sweeps/{sweep_id}/retry").json()
    assert (answer["status"], answer["completed_at"]) == ("running", None)
    assert answer["counts"]["pending"] == GROUP_SIZE


def test_extend_answers_with_the_sweep_running_again(api: httpx.Client, session: Session) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    answer = api.post(f"/v1/sweeps/{sweep_id}/extend", json={"trials": 20, "top": 5}).json()
    assert answer["status"] == "running"
    assert (answer["counts"]["pending"], answer["counts"]["completed"]) == (5, TOTAL - 5)
    pending = api.get(f"/v1/sweeps/{sweep_id}/jobs", params={"status": "pending"}).json()["jobs"]
    assert {(job["trials_done"], job["trials_target"]) for job in pending} == {(2, 20)}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "trials"),
        ({"trials": 0}, "trials"),
        ({"trials": 1001}, "trials"),
        ({"trials": 2}, "trials"),
        ({"trials": 5, "top": 0}, "top"),
        ({"trials": 5, "best": 3}, "best"),
    ],
)
def test_extension_that_does_not_fit_is_refused_by_the_name_of_its_field(
    body: dict[str, int], field: str, api: httpx.Client, session: Session
) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    answer = api.post(f"/v1/sweeps/{sweep_id}/extend", json=body)
    problem = assert_problem(answer, 422, "invalid_input")
    assert [error["field"] for error in problem["errors"]] == [field]


def test_cancelled_and_unknown_sweeps_get_no_more_work(api: httpx.Client, session: Session) -> None:
    sweep_id = add_sweep(session)
    cancel_sweep(session, sweep_id)
    session.commit()
    for action, body in [("retry", None), ("extend", {"trials": 9})]:
        gone = api.post(f"/v1/sweeps/{sweep_id}/{action}", json=body)
        assert_problem(gone, 409, "illegal_transition")
        unknown = api.post(f"/v1/sweeps/404/{action}", json=body)
        assert_problem(unknown, 404, "sweep_not_found")


def test_job_shows_every_attempt(api: httpx.Client, session: Session) -> None:
    held = claimed(session, add_sweep(session))
    fail_claim(session, held, error="RuntimeError: broke", max_attempts=3)
    again = claimed(session, held.sweep_id)
    complete(session, again)
    job = api.get(f"/v1/jobs/{again.jobs[0].id}").json()
    first, second = job["attempts"]
    assert (first["attempt"], first["outcome"], first["error"]) == (
        1, "failed", "RuntimeError: broke",
    )  # fmt: skip
    assert (second["attempt"], second["outcome"], second["error"]) == (2, "completed", None)
    assert second["lease_token"] == str(again.token)
    assert first["ended_at"] <= second["started_at"] < second["ended_at"]


def test_workers_are_listed_with_their_datasets(api: httpx.Client, session: Session) -> None:
    worker_id = add_worker(session)
    session.execute(text("""UPDATE workers SET datasets = '{"digits": ["ab"], "mine": []}'"""))
    session.commit()
    [worker] = api.get("/v1/workers").json()
    assert worker["id"] == str(worker_id)
    assert worker["datasets"] == {"digits": ["ab"], "mine": []}
    assert worker["code_version"] == "1"
    assert (worker["device_class"], worker["device"]) == ("cpu", "a processor")


def test_sweep_says_which_content_its_dataset_has(api: httpx.Client, session: Session) -> None:
    sweep_id = add_sweep(session)
    assert api.get(f"/v1/sweeps/{sweep_id}").json()["dataset_hash"] is None
    complete(session, claimed(session, sweep_id))
    assert api.get(f"/v1/sweeps/{sweep_id}").json()["dataset_hash"] == "ab" * 32


def test_request_that_finds_every_connection_busy_answers_503(
    migrated: Settings, session: Session
) -> None:
    few = migrated.model_copy(update={"api_connections": 2})
    sweep_id = add_sweep(session)
    session.execute(text("LOCK TABLE sweeps"))  # a reader now waits, and holds its connection
    with serving(few) as url, ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(httpx.get, f"{url}/v1/sweeps/{sweep_id}", timeout=30) for _ in range(3)
        ]
        refused = next(as_completed(asked)).result()
        body = assert_problem(refused, 503, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert "database" in body["detail"]
        session.commit()
        assert sorted(one.result().status_code for one in asked) == [200, 200, 503]


def test_request_that_the_database_never_answers_is_answered_503(
    migrated: Settings, session: Session
) -> None:
    impatient = migrated.model_copy(update={"api_answer_s": 2.0})
    sweep_id = add_sweep(session)
    session.execute(text("LOCK TABLE sweeps"))
    with serving(impatient) as url, httpx.Client(base_url=url, timeout=30) as client:
        answer = client.get(f"/v1/sweeps/{sweep_id}")
        assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        session.commit()
        assert client.get(f"/v1/sweeps/{sweep_id}").status_code == 200
        assert len(client.get(f"/v1/sweeps/{sweep_id}/export.csv").text.splitlines()) == TOTAL + 1
