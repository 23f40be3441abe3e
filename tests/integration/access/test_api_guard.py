"""What the API refuses before anything reads it, and parameters that it does not know."""

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy.orm import Session

from tests.integration.api.test_api import assert_problem


@pytest.fixture
def api(api_url: str, session: Session) -> Iterator[httpx.Client]:
    """A client of the API on an empty database."""
    with httpx.Client(base_url=api_url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_foreign_name_for_this_machine_is_refused(host: str, api: httpx.Client) -> None:
    answer = api.get("/v1/sweeps", headers={"Host": host})
    assert_problem(answer, 421, "foreign_host")


@pytest.mark.parametrize("path", ["/v1/sweeps", "/v1/sweeps/1/cancel"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_changes_nothing(
    path: str, origin: str, api: httpx.Client
) -> None:
    answer = api.post(path, json={"preset": "quick"}, headers={"Origin": origin})
    assert_problem(answer, 403, "foreign_origin")
    assert api.get("/v1/sweeps").json()["sweeps"] == []


def test_a_page_of_the_api_itself_may_change_things(api: httpx.Client) -> None:
    origin = str(api.base_url).rstrip("/")
    answer = api.post("/v1/sweeps", json={"preset": "quick"}, headers={"Origin": origin})
    assert answer.status_code == 201


def test_a_body_beyond_the_limit_is_refused_however_it_comes(api: httpx.Client) -> None:
    body = b'{"name": "' + b"x" * 2_000_000 + b'"}'
    whole = api.post("/v1/sweeps", content=body)
    assert_problem(whole, 413, "body_too_large")
    pieces = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    streamed = api.post("/v1/sweeps", content=pieces, headers={"Content-Type": "application/json"})
    assert_problem(streamed, 413, "body_too_large")


def test_an_error_names_at_most_twenty_fields(api: httpx.Client) -> None:
    layers = [{"stride": [0] * 1000}]
    wanted = {"space": {"layers": layers}, "protocol": {"dataset": "digits"}}
    body = assert_problem(api.post("/v1/sweeps", json=wanted), 422, "invalid_input")
    assert len(body["errors"]) == 20


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("/v1/sweeps?limits=3", "invalid_input"),
        ("/v1/sweeps/1/leaderboard?min_accurac=0.9", "unknown_filter"),
        ("/healthz?x=1", "invalid_input"),
    ],
)
def test_an_unknown_parameter_is_refused_by_its_name(
    query: str, code: str, api: httpx.Client
) -> None:
    body = assert_problem(api.get(query), 422, code)
    name = query.split("?")[1].split("=", maxsplit=1)[0]
    assert [error["field"] for error in body["errors"]] == [name]


def test_no_page_and_no_space_is_larger_than_its_limit(api: httpx.Client) -> None:
    paged = [
        (method, path, parameter["schema"])
        for path, methods in api.get("/openapi.json").json()["paths"].items()
        for method, operation in methods.items()
        for parameter in operation.get("parameters", [])
        if parameter["name"] in ("limit", "page_size")
    ]
    assert paged
    for method, path, schema in paged:
        assert schema["maximum"] <= 1000, (method, path)
    assert_problem(api.get("/v1/sweeps?limit=201"), 422, "invalid_input")

    layer = {"channels": list(range(1, 22)), "kernel_size": [1, 3, 5], "stride": [1, 2, 3, 4]}
    wanted = {"space": {"layers": [layer] * 3}, "protocol": {"dataset": "digits"}}
    for path in ("/v1/sweeps", "/v1/sweeps/preview"):
        body = assert_problem(api.post(path, json=wanted), 422, "invalid_input")
        assert "16,003,008" in body["detail"]
