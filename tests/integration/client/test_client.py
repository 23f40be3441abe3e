"""The client's types, filters, downloads and errors, against the real API."""

import json
import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.schemas.leaderboard import LeaderboardOut, LeaderOut
from api.schemas.sweeps import PreviewOut, SweepOut
from api.schemas.workers import WorkerOut
from convsweep import (
    ApiError,
    ApiUnreachableError,
    Client,
    InvalidFilterError,
    InvalidRequestError,
    InvalidUrlError,
    Preview,
    RankedNetwork,
    Sweep,
    WorkerState,
)
from convsweep.answers import LeaderboardPage
from convsweep.events import EVENTS, WorkerEvent, parse_event
from convsweep.filters import parse_assignments, to_parameters
from shared.domain import events
from tests.conftest import free_port
from tests.integration.listings import Reference, add_results
from tests.integration.scenario import add_sweep


@pytest.fixture
def client(api_url: str, session: Session) -> Iterator[Client]:
    with Client(api_url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("sweep", "reason"),
    [
        ({"protocol": {"gates": {"max_ratio": math.inf}}}, "protocol.gates.max_ratio is inf"),
        ({"protocol": {"seed": math.nan}}, "protocol.seed is nan"),
        ({"space": {"layers": [{}, {"channels": [1, {2}]}]}},
         r"space.layers\[1\].channels\[1\] is a set"),
    ],
)  # fmt: skip
def test_a_value_that_json_cannot_express_is_refused_before_anything_is_sent(
    sweep: dict[str, Any], reason: str
) -> None:
    with Client("http://127.0.0.1:1") as nowhere:
        for send in (nowhere.preview, nowhere.create_sweep):
            with pytest.raises(InvalidRequestError, match=reason):
                send(sweep)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        (" 127.0.0.1:8000 ", "http://127.0.0.1:8000"),
        ("sweeps.example.org/v1", "http://sweeps.example.org"),
        ("https://lab.example.org/proxy/8000/v1/", "https://lab.example.org/proxy/8000"),
    ],
)
def test_an_address_without_a_scheme_or_with_v1_is_understood(url: str, expected: str) -> None:
    with Client(url) as client:
        assert client.url == expected


@pytest.mark.parametrize("url", ["", "   ", "ftp://x", "http://", "http://x:port", "x/?a=1"])
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidUrlError, match=r"http://127.0.0.1:8000"):
        Client(url)


ANSWERS: dict[type, type[BaseModel]] = {
    LeaderboardPage: LeaderboardOut,
    Preview: PreviewOut,
    RankedNetwork: LeaderOut,
    Sweep: SweepOut,
    WorkerState: WorkerOut,
}


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_typed_answers_have_the_fields_that_the_api_sends(kind: type) -> None:
    assert set(kind.__annotations__) == set(ANSWERS[kind].model_fields)


def test_events_have_the_names_and_fields_that_the_api_sends() -> None:
    assert {name: {field.name for field in fields(kind)} for name, kind in EVENTS.items()} == {
        name: set(kind.model_fields) for name, kind in events.EVENTS.items()
    }
    changes = next(field.type for field in fields(WorkerEvent) if field.name == "change")
    assert get_args(changes) == get_args(events.WorkerChange)


def test_events_of_a_newer_api_are_read_as_far_as_they_are_known() -> None:
    data = json.dumps({"detail": "the database is down", "since": "2026-11-25"})
    assert parse_event("a new kind", data) is None
    event = parse_event("unavailable", data)
    assert event is not None
    assert event.__dict__ == {"detail": "the database is down"}


@pytest.mark.parametrize("text", ["accuracy", "=1", ""])
def test_a_filter_without_name_or_equals_sign_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilterError, match="NAME=VALUES"):
        parse_assignments([text])


def test_one_filter_needs_no_list(client: Client, session: Session) -> None:
    sweep_id = add_results(session)
    rows = client.leaderboard(sweep_id, where="kernel_size[0]=5")
    ranked = Reference.of(session, sweep_id).ranked({"kernel_size[0]": [5]})
    assert [row["id"] for row in rows] == ranked
    assert ranked


def test_lists_become_repeated_parameters_and_none_is_left_out() -> None:
    options = {"parameter": ["stride_0", "stride_1"], "target": "accuracy", "device": None}
    assert to_parameters(["ratio=..1"], options) == [
        ("ratio", "..1"),
        ("parameter", "stride_0"),
        ("parameter", "stride_1"),
        ("target", "accuracy"),
    ]


def test_a_download_that_fails_leaves_the_old_file_and_nothing_else(
    client: Client, session: Session, tmp_path: Path
) -> None:
    file = tmp_path / "results.csv"
    file.write_text("old")

    def fail(_: bytes) -> None:
        raise KeyboardInterrupt

    export = f"/v1/sweeps/{add_results(session)}/export.csv"
    with pytest.raises(KeyboardInterrupt):
        client.download(export, file, on_bytes=fail)
    with pytest.raises(ApiError):
        client.download("/v1/sweeps/0/export.csv", file)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert file.read_text() == "old"
    client.download(export, file)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert file.read_text().startswith("id,")


def test_an_address_without_an_api_is_named_in_the_error() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as stray, pytest.raises(ApiUnreachableError, match=url):
        stray.list_sweeps()


def test_a_page_that_is_not_json_is_an_api_error(client: Client) -> None:
    with pytest.raises(ApiError, match="without JSON") as error:
        client._connection.get("/docs")
    assert (error.value.status, error.value.code) == (200, "unexpected_answer")


def test_a_stream_ends_with_the_sweep_and_a_missing_sweep_is_refused(
    client: Client, session: Session
) -> None:
    sweep_id = add_sweep(session)
    client.control_sweep(sweep_id, "cancel")
    *_, last = client.watch(sweep_id)
    assert last.event.__class__.__name__ == "EndEvent"
    with pytest.raises(ApiError) as refusal:
        next(client.watch(10**6))
    assert (refusal.value.status, refusal.value.code) == (404, "sweep_not_found")
