"""Rate limits over HTTP: separate budgets, shared by all API processes, and without Redis."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.middleware import admission, rate_limits
from shared.domain.access import KeyScope
from shared.messaging.broker import client_url
from shared.settings import Settings
from tests.acceptance.faults.site import Broker
from tests.conftest import serving
from tests.integration.access.test_access import bearer, make_key
from tests.integration.api.test_api import assert_problem

READS, WRITES, FAILURES = 5, 2, 3


@pytest.fixture
def limited(migrated: Settings, broker_url: str, hints: object) -> Settings:
    """Settings of an API with keys and small budgets, on an empty Valkey."""
    budgets = {
        "reads_per_minute": READS,
        "writes_per_minute": WRITES,
        "failures_per_minute": FAILURES,
    }
    return migrated.model_copy(update={"api_keys": "required", "broker_url": broker_url, **budgets})


@pytest.fixture
def api(limited: Settings, session: Session) -> Iterator[httpx.Client]:
    with serving(limited) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def test_the_refusal_of_a_request_beyond_the_budget_says_when_to_come_back(
    api: httpx.Client, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.WRITE))
    left = []
    for _ in range(READS):
        answer = api.get("/v1/sweeps", headers=key)
        assert answer.status_code == 200
        left.append(int(answer.headers["ratelimit-remaining"]))
    assert left == [4, 3, 2, 1, 0]
    refused = api.get("/v1/sweeps", headers=key)
    assert_problem(refused, 429, "rate_limited")
    assert refused.headers["ratelimit-limit"] == str(READS)
    assert refused.headers["ratelimit-remaining"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert api.get("/healthz").status_code == 200


def test_reads_writes_and_other_keys_have_budgets_of_their_own(
    api: httpx.Client, session: Session
) -> None:
    key, other = (bearer(make_key(session, KeyScope.WRITE)) for _ in range(2))
    for _ in range(WRITES):
        assert_problem(api.post("/v1/sweeps/1/pause", headers=key), 404, "sweep_not_found")
    assert_problem(api.post("/v1/sweeps/1/pause", headers=key), 429, "rate_limited")
    assert api.get("/v1/sweeps", headers=key).status_code == 200
    assert_problem(api.post("/v1/sweeps/1/pause", headers=other), 404, "sweep_not_found")


def test_failed_authentications_are_limited_and_cost_a_good_key_nothing(
    api: httpx.Client, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    for _ in range(FAILURES):
        assert_problem(api.get("/v1/sweeps", headers=bearer("csw_no")), 401, "key_invalid")
    assert_problem(api.get("/v1/sweeps"), 429, "rate_limited")
    assert api.get("/v1/sweeps", headers=key).status_code == 200


def test_a_refusal_that_is_repeated_at_once_comes_late_and_costs_no_key_check(
    api: httpx.Client, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    for _ in range(READS):
        assert api.get("/v1/sweeps", headers=key).status_code == 200
    assert_problem(api.get("/v1/sweeps", headers=key), 429, "rate_limited")
    session.execute(text("LOCK TABLE api_keys"))
    started = time.monotonic()
    assert_problem(api.get("/v1/sweeps", headers=key), 429, "rate_limited")
    assert time.monotonic() - started >= admission.REPEATED_S
    session.rollback()


def test_a_heavy_request_takes_more_of_the_budget(limited: Settings, session: Session) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    with (
        serving(limited.model_copy(update={"reads_per_minute": 1000})) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        before = _remaining(client, key)
        answer = client.get("/v1/sweeps/1/plots/scatter.png", headers=key)
        assert_problem(answer, 404, "sweep_not_found")
        assert _remaining(client, key) == before - 51


def test_two_api_processes_share_a_budget(
    limited: Settings, api: httpx.Client, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    for _ in range(READS):
        assert api.get("/v1/sweeps", headers=key).status_code == 200
    with serving(limited) as url:
        assert_problem(httpx.get(f"{url}/v1/sweeps", headers=key), 429, "rate_limited")


def test_where_keys_are_off_an_address_has_the_budget(limited: Settings, session: Session) -> None:
    with serving(limited.model_copy(update={"api_keys": "off"})) as url:
        codes = [httpx.get(f"{url}/v1/sweeps").status_code for _ in range(READS + 1)]
    assert codes == [200] * READS + [429]


def test_a_redis_that_says_nothing_delays_one_request_and_limits_go_on(
    limited: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "AWAY_S", 3600)
    key = bearer(make_key(session, KeyScope.READ))
    codes, connections = [], []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        broker_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with (
            serving(limited.model_copy(update={"broker_url": broker_url})) as url,
            httpx.Client(base_url=url) as client,
        ):
            for _ in range(READS + 1):
                codes.append(client.get("/v1/sweeps", headers=key).status_code)
                connections.append(_accept_all(silent))
    assert codes == [200] * READS + [429]
    assert connections[0] > 0
    assert connections[1:] == [0] * READS


def _accept_all(listener: socket.socket) -> int:
    """Returns how many clients have connected since the last call; they get no answer."""
    listener.setblocking(False)
    accepted = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            accepted += 1
    return accepted


def test_a_redis_that_comes_back_is_used_again(
    limited: Settings, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "AWAY_S", 0.2)
    key = bearer(make_key(session, KeyScope.READ))
    broker = Broker(tmp_path / "valkey")
    settings = limited.model_copy(update={"broker_url": broker.url(), "reads_per_minute": 1000})
    try:
        with serving(settings) as url, httpx.Client(base_url=url) as client:
            before = _remaining(client, key)
            broker.stop()
            assert _remaining(client, key) == 999  # counted anew, in this process
            broker.start()
            deadline = time.monotonic() + 20
            while (now := _remaining(client, key)) > before - 1:
                assert time.monotonic() < deadline, now
                time.sleep(0.05)
    finally:
        broker.stop()


def _remaining(client: httpx.Client, key: dict[str, str]) -> int:
    answer = client.get("/v1/sweeps", headers=key)
    assert answer.status_code == 200
    return int(answer.headers["ratelimit-remaining"])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis+socket:///a/b.sock", "unix:///a/b.sock?db=0"),
        ("redis+socket:///a/b.sock?virtual_host=3", "unix:///a/b.sock?db=3"),
    ],
)
def test_a_brokers_address_is_understood_as_celery_understands_it(url: str, expected: str) -> None:
    assert client_url(url) == expected
