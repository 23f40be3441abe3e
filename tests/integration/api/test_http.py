"""HTTP itself: HEAD, repeated parameters, redirects, proxies, logins and the security policy."""

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.app import create_app
from api.middleware.security import HEADERS
from shared.settings import Settings
from tests.conftest import serving
from tests.integration.access.test_access import LOCKED, bearer, filled
from tests.integration.api.test_api import assert_problem
from tests.integration.listings import add_results
from tests.integration.monitoring.test_api_logs import capture

READS = [path for path, ways in create_app(Settings()).openapi()["paths"].items() if "get" in ways]
CHANGING = {"date", "x-request-id", "content-length", "etag"}


@pytest.fixture
def api(api_url: str, session: Session) -> Iterator[httpx.Client]:
    """A client of the API on an empty database."""
    with httpx.Client(base_url=api_url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("path", [path for path in READS if not path.endswith("/events")])
def test_head_answers_what_get_answers_without_its_body(
    path: str, api: httpx.Client, session: Session
) -> None:
    add_results(session)
    got, asked = api.get(filled(path)), api.head(filled(path))
    assert asked.status_code == got.status_code
    assert asked.content == b""
    assert {name for name in got.headers if name not in CHANGING} == {
        name for name in asked.headers if name not in CHANGING
    }
    assert api.get("/healthz").status_code == 200  # the connection is still in order


def test_head_of_an_event_stream_ends(api: httpx.Client, session: Session) -> None:
    sweep_id = add_results(session)
    answer = api.head(f"/v1/sweeps/{sweep_id}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_head_of_what_has_no_get_is_not_allowed(api: httpx.Client) -> None:
    assert api.head("/v1/sweeps/preview").status_code in (405, 422)
    assert api.head("/v1/sweeps/1/pause").status_code == 405


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("/v1/sweeps?page_size=3&page_size=4", "page_size"),
        ("/v1/sweeps/1/leaderboard?sort=-accuracy&sort=id", "sort"),
        ("/v1/sweeps/1/analysis/effects?target=accuracy&target=throughput", "target"),
        ("/v1/sweeps/1/export.csv?rows=trials&rows=trials", "rows"),
    ],
)
def test_a_parameter_of_one_value_that_is_repeated_is_refused(
    query: str, name: str, api: httpx.Client
) -> None:
    body = assert_problem(api.get(query), 422, "invalid_input")
    assert body["errors"] == [{"field": name, "message": f"{name} takes one value, not 2."}]


def test_lists_and_filters_may_be_repeated(api: httpx.Client, session: Session) -> None:
    sweep_id = add_results(session)
    once = api.get(f"/v1/sweeps/{sweep_id}/leaderboard?status=completed|rejected")
    twice = api.get(f"/v1/sweeps/{sweep_id}/leaderboard?status=completed&status=rejected")
    assert once.json()["rows"] == twice.json()["rows"]
    pairs = "parameter=stride[1]&parameter=kernel_size[1]"
    assert api.get(f"/v1/sweeps/{sweep_id}/analysis/interactions?{pairs}").status_code == 200


@pytest.mark.parametrize("path", ["/v1/sweeps/", "/docs/", "/dashboard", "/v1/sweeps/1/"])
def test_no_answer_sends_a_client_to_the_host_of_its_request(
    path: str, migrated: Settings, session: Session
) -> None:
    with serving(migrated.model_copy(update=LOCKED)) as url:
        answer = httpx.get(url + path, headers={"Host": "evil.example"})
    assert "location" not in answer.headers
    assert "evil.example" not in answer.text


def addresses_of_failed_logins(settings: Settings, forwarded: str) -> list[str]:
    with serving(settings) as url, capture() as lines:
        answer = httpx.get(f"{url}/v1/sweeps", headers={"X-Forwarded-For": forwarded})
        assert answer.status_code == 401
    return [line["address"] for line in lines if line["event"] == "login_failed"]


def test_a_forwarded_address_is_believed_only_of_a_trusted_proxy(
    migrated: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    locked = migrated.model_copy(update=LOCKED)
    assert addresses_of_failed_logins(locked, "192.0.2.7") == ["127.0.0.1"]
    for proxies in ("127.0.0.1", "10.0.0.0/8,127.0.0.0/8"):
        trusting = locked.model_copy(update={"trusted_proxies": proxies})
        assert addresses_of_failed_logins(trusting, "192.0.2.7") == ["192.0.2.7"]


def test_a_failed_login_is_logged_with_address_and_reason_and_never_the_key(
    migrated: Settings, session: Session
) -> None:
    secret = "csw_0123456789ab_" + "s" * 43
    with serving(migrated.model_copy(update=LOCKED)) as url, capture() as lines:
        httpx.get(f"{url}/v1/sweeps", headers=bearer(secret))
        httpx.get(f"{url}/v1/sweeps")
    failed = [line for line in lines if line["event"] == "login_failed"]
    assert [line["reason"] for line in failed] == ["key_invalid", "key_missing"]
    assert {line["address"] for line in failed} == {"127.0.0.1"}
    assert "s" * 43 not in str(lines)


PAGES = ["/", "/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/dashboard/app.js",
         "/openapi.json", "/healthz", "/v1/sweeps", "/metrics", "/nowhere",
         "/v1/sweeps/1/plots/scatter.svg", "/v1/sweeps?limits=1"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_every_response_has_the_security_policy(path: str, api: httpx.Client) -> None:
    assert_secured(api.get(path))


def test_refusals_and_failures_have_the_security_policy(
    api: httpx.Client, session: Session
) -> None:
    assert_secured(api.get("/v1/sweeps", headers={"Host": "evil.example"}))
    assert_secured(api.post("/v1/sweeps", content=b"x" * 2_000_000))
    session.execute(text("ALTER TABLE sweeps RENAME COLUMN name TO renamed"))
    session.commit()
    try:
        failed = api.get("/v1/sweeps")
    finally:
        session.execute(text("ALTER TABLE sweeps RENAME COLUMN renamed TO name"))
        session.commit()
    assert failed.status_code == 500
    assert_secured(failed)


def assert_secured(answer: httpx.Response) -> None:
    for name, value in HEADERS.items():
        assert name in answer.headers, name
        if name != "Content-Security-Policy":
            assert answer.headers.get_list(name) == [value]
    [policy] = answer.headers.get_list("Content-Security-Policy")
    rules = [rule.strip() for rule in policy.split(";")]
    assert "default-src 'none'" in rules
    assert "frame-ancestors 'none'" in rules
    assert "'unsafe-inline'" not in "".join(rule for rule in rules if "script" in rule)
