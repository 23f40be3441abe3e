"""Ranked rows in the Python client and on the command line."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from cli.main import app
from convsweep import ApiError, Client, InvalidFilterError, PandasMissingError, RankedNetwork
from shared.domain.results.ranking import Range
from tests.integration.listings import Reference, add_results
from tests.integration.scenario import add_sweep


@pytest.fixture
def client(api_url: str, session: Session) -> Iterator[Client]:
    with Client(api_url) as opened:
        yield opened


def test_rows_come_page_by_page_and_all_of_them(
    client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id = add_results(session)
    reference = Reference.of(session, sweep_id)
    monkeypatch.setattr("convsweep.leaderboard.MAX_PAGE_SIZE", 7)
    board = client.leaderboard(sweep_id, sort="-fitness,accuracy")
    assert [row["id"] for row in board] == reference.ranked({}, ["-fitness", "accuracy"])
    assert [row["rank"] for row in board] == list(range(1, len(list(board)) + 1))
    for limit in (1, 7, 20):
        some = client.leaderboard(sweep_id, sort="-fitness,accuracy", limit=limit)
        assert list(some) == list(board)[:limit]
    assert board.throughput_device == "H100"
    assert list(board.timed) == list(board.measured) == ["H100", "A100", "a processor"]


def test_rows_have_the_fields_that_their_type_names(client: Client, session: Session) -> None:
    row = next(iter(client.leaderboard(add_results(session))))
    assert row.keys() == RankedNetwork.__annotations__.keys()


def test_filters_are_those_of_the_url(client: Client, session: Session) -> None:
    sweep_id = add_results(session)
    reference = Reference.of(session, sweep_id)
    where = ["kernel_size[0]=5", "stride[1]=1|3", "device=A100"]
    found = [row["id"] for row in client.leaderboard(sweep_id, where=where, sort="-throughput")]
    wanted = {"kernel_size[0]": [5], "stride[1]": [1, 3]}
    assert found == reference.ranked(wanted, ["-throughput"], device="A100")
    with pytest.raises(InvalidFilterError):
        client.leaderboard(sweep_id, where=["accuracy"])
    with pytest.raises(ApiError) as refusal:
        client.leaderboard(sweep_id, where=["acuracy=1"])
    assert refusal.value.code == "unknown_filter"


def test_rows_become_a_frame_of_pandas(client: Client, session: Session) -> None:
    sweep_id = add_results(session)
    board = client.leaderboard(sweep_id, sort="-accuracy")
    frame = board.to_pandas()
    assert list(frame.index) == [row["rank"] for row in board]
    assert list(frame["accuracy"]) == [row["accuracy"] for row in board]
    assert list(frame["kernel_size_1"]) == [row["layers"][1]["kernel_size"] for row in board]
    assert frame["throughput"].dtype == float
    assert len(client.leaderboard(add_sweep(session)).to_pandas()) == 0


def test_without_pandas_an_error_says_what_to_install(
    client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = client.leaderboard(add_results(session))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PandasMissingError, match=r"convsweep-client\[pandas\]"):
        board.to_pandas()


def test_top_filters_sorts_and_says_whose_throughputs_it_shows(
    api_url: str, session: Session
) -> None:
    sweep_id = add_results(session)
    reference = Reference.of(session, sweep_id)

    def top(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["top", str(sweep_id), "--url", api_url, *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    chosen = ["--where", "accuracy=0.2..", "-w", "kernel_size[0]=3", "--sort=throughput"]
    rows = json.loads(top(*chosen, "--json", "-n", "5", "--device", "A100"))
    filters: dict[str, list[Any]] = {"accuracy": [Range(0.2, None)], "kernel_size[0]": [3]}
    assert [row["id"] for row in rows] == reference.ranked(filters, ["throughput"], "A100")[:5]
    timed = Counter(row["device"] for row in reference.rows if row["throughput"])
    networks = sum(row["status"] == "completed" for row in reference.rows)
    shown = " ".join(top().split())
    assert f"Throughputs and fitness on H100 ({timed['H100']} of {networks} networks)" in shown
    assert f'for others: --device "A100" ({timed["A100"]}), ' in shown
    assert f"Throughputs and fitness on A100 ({timed['A100']} of" in top("--device", "A100")
