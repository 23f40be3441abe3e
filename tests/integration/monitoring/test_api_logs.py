"""What the API says of a request: its id, its log line, and nothing of its insides."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from shared.domain.access import KeyScope
from shared.settings import Settings
from tests.conftest import serving
from tests.integration.access.test_access import LOCKED, bearer, make_key
from tests.integration.api.test_api import assert_problem
from tests.integration.scenario import add_sweep

MY_PAGE = "https://lab.example.org"


@pytest.fixture(scope="module")
def url(migrated: Settings) -> Iterator[str]:
    """The API with keys required, open to one other page."""
    with serving(migrated.model_copy(update=LOCKED | {"cors_origins": MY_PAGE})) as served:
        yield served


@pytest.fixture
def api(url: str, session: Session) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def logged(lines: list[Any]) -> dict[str, Any]:
    """Returns the one line about a request."""
    (line,) = [line for line in lines if line["event"] == "request"]
    return dict(line)


@contextmanager
def capture() -> Iterator[list[Any]]:
    """Collects what is logged; the line about a request comes after its answer."""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        yield lines
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not any(x["event"] == "request" for x in lines):
            time.sleep(0.01)


def test_a_request_is_logged_with_its_route_its_ids_and_never_its_key(
    api: httpx.Client, session: Session
) -> None:
    key, sweep_id = make_key(session, KeyScope.WRITE), add_sweep(session)
    with capture() as lines:
        answer = api.post(f"/v1/sweeps/{sweep_id}/pause", headers=bearer(key))
    line = logged(lines)
    assert line.pop("duration_ms") > 0
    assert line.pop("request_id") == answer.headers["x-request-id"]
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "route": "/v1/sweeps/{sweep_id}/{action}",
        "action": "pause",
        "status": 200,
        "key": key.split("_")[1],
        "sweep_id": str(sweep_id),
    }
    assert key.split("_", 2)[2] not in str(lines)


def test_the_log_says_who_created_which_sweep_and_which_key(
    api: httpx.Client, session: Session
) -> None:
    key = make_key(session, KeyScope.ADMIN)
    with capture() as lines:
        sweep = api.post("/v1/sweeps", json={"preset": "quick"}, headers=bearer(key)).json()
        wanted = {"name": "new", "scope": "read"}
        made = api.post("/v1/keys", json=wanted, headers=bearer(key)).json()
        api.delete(f"/v1/keys/{made['prefix']}", headers=bearer(key))
    said = {line["event"]: line for line in lines if line["event"] != "request"}
    assert said["sweep_created"]["sweep_id"] == sweep["id"]
    assert said["key_created"]["prefix"] == said["key_revoked"]["prefix"] == made["prefix"]
    assert {line["key"] for line in lines} == {key.split("_")[1]}
    assert made["key"].split("_", 2)[2] not in str(lines)


@pytest.mark.parametrize("given", ["abc-123", "a" * 64, "0f.9_x"])
def test_a_sane_request_id_is_kept(given: str, api: httpx.Client) -> None:
    answer = api.get("/v1/sweeps", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "x;y", "<script>", "ä"])
def test_any_other_request_id_is_replaced(given: str, api: httpx.Client) -> None:
    answer = api.get("/v1/sweeps", headers={b"X-Request-ID": given.encode()})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_failure_of_our_own_shows_an_id_and_no_insides(
    api: httpx.Client, session: Session
) -> None:
    key, sweep_id = make_key(session, KeyScope.READ), add_sweep(session)
    session.execute(text('UPDATE sweeps SET protocol = \'{"trials": "a secret"}\''))
    session.commit()
    with capture() as lines:
        answer = api.get(f"/v1/sweeps/{sweep_id}", headers=bearer(key))
    body = assert_problem(answer, 500, "internal_error")
    for inside in ("Traceback", "File ", "pydantic", "a secret", "ValidationError"):
        assert inside not in answer.text
    assert answer.headers["x-request-id"] == body["request_id"]
    (failure,) = [line for line in lines if line["event"] == "unexpected_error"]
    assert failure["request_id"] == body["request_id"]
    assert logged(lines)["status"] == 500


def test_a_log_line_of_a_request_carries_the_ids_of_its_path(
    api: httpx.Client, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    session.execute(text("ALTER TABLE trials RENAME TO trials_away"))
    session.commit()
    try:
        with capture() as lines:
            sweep_id = add_sweep(session)
            job_id = api.get(f"/v1/sweeps/{sweep_id}/jobs", headers=key).json()["jobs"][0]["id"]
            assert_problem(api.get(f"/v1/jobs/{job_id}", headers=key), 500, "internal_error")
    finally:
        session.execute(text("ALTER TABLE trials_away RENAME TO trials"))
        session.commit()
    (failure,) = [line for line in lines if line["event"] == "unexpected_error"]
    assert failure["job_id"] == str(job_id)


def test_only_the_pages_of_the_list_may_read_and_change_from_elsewhere(
    api: httpx.Client, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.WRITE))
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    welcome = api.options("/v1/sweeps", headers=asked | {"Origin": MY_PAGE})
    assert welcome.status_code == 200
    assert welcome.headers["access-control-allow-origin"] == MY_PAGE
    foreign = api.options("/v1/sweeps", headers=asked | {"Origin": "https://evil.example"})
    assert foreign.status_code == 400
    assert "access-control-allow-origin" not in foreign.headers

    wanted = {"preset": "quick"}
    made = api.post("/v1/sweeps", json=wanted, headers=key | {"Origin": MY_PAGE})
    assert made.status_code == 201
    assert made.headers["access-control-allow-origin"] == MY_PAGE
    refused = api.post("/v1/sweeps", json=wanted, headers=key | {"Origin": "https://evil.example"})
    assert_problem(refused, 403, "foreign_origin")


def test_no_other_page_reads_anything_unless_it_is_listed(api_url: str, session: Session) -> None:
    answer = httpx.get(f"{api_url}/v1/sweeps", headers={"Origin": MY_PAGE})
    assert not any(name.startswith("access-control") for name in answer.headers)
