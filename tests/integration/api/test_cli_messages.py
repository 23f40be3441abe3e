"""What the command line shows of names and messages that come from elsewhere."""

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from cli import output
from cli.main import app
from tests.integration.scenario import add_sweep, finish_sweep

ODD_NAMES = ["[/x] boom", "[bold]", "[link=http://x]y[/link]"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_shown_as_it_is_and_never_read_as_markup(
    name: str, api_url: str, session: Session
) -> None:
    def convsweep(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--url", api_url])
        assert done.exit_code == 0, done.output
        return done.output

    convsweep("sweep", "start", "--preset", "quick", "--name", name)
    assert name in convsweep("sweep", "list")
    assert name in convsweep("sweep", "show", "latest")


def test_a_sweep_with_a_name_from_before_the_rule_is_listed_escaped_with_its_id(
    api_url: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id = add_sweep(session)
    name = "\x9b31m\u202e" + "x" * 180
    session.execute(text("UPDATE sweeps SET name = :name"), {"name": name})
    session.commit()
    for width in (80, 120):
        monkeypatch.setattr(output.console, "width", width)
        done = CliRunner().invoke(app, ["sweep", "list", "--url", api_url])
        assert done.exit_code == 0, done.output
        line = next(line for line in done.output.splitlines() if "running" in line)
        assert line.split()[:1] == [str(sweep_id)]
        assert r"\x9b31m\u202exxx" in line
        assert "…" in line
    shown = CliRunner().invoke(app, ["sweep", "show", str(sweep_id), "--url", api_url])
    assert r"\x9b31m\u202exxx" in shown.output
    assert shown.output.isascii()


def test_sweeps_and_attempts_show_times_with_their_zone(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    job_id = session.execute(text("SELECT min(id) FROM jobs")).scalar_one()
    zone = dt.datetime.now().astimezone().strftime("%Z")
    for arguments in (["sweep", "list"], ["sweep", "show", "latest"], ["job", str(job_id)]):
        done = CliRunner().invoke(app, [*arguments, "--url", api_url])
        assert done.exit_code == 0, done.output
        assert re.search(rf"\d\d:\d\d {re.escape(zone)}\b", done.output), done.output


def test_a_preview_reports_networks_that_compute_the_same(api_url: str, tmp_path: Path) -> None:
    layer = {"kernel_size": [1, 3], "dilation": [1, 2, 3]}
    file = tmp_path / "sweep.json"
    for layers, shown in (([layer], "2"), ([layer | {"dilation": [1]}], None)):
        protocol = {"dataset": "digits", "gates": {"max_ratio": None}}
        file.write_text(json.dumps({"space": {"layers": layers}, "protocol": protocol}))
        done = CliRunner().invoke(app, ["sweep", "preview", "-f", str(file), "--url", api_url])
        assert done.exit_code == 0, done.output
        lines = [line for line in done.output.splitlines() if "same as another" in line]
        assert [line.split()[-1] for line in lines] == ([shown] if shown else [])


@pytest.mark.parametrize("contents", ["[1]", '"words"', '{"protocol": 3}'])
def test_a_file_that_holds_no_sweep_is_refused_with_a_message(
    contents: str, api_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = CliRunner().invoke(
        app, ["sweep", "preview", "--file", "-", "--url", api_url], input=contents
    )
    assert done.exit_code == 1
    assert "must be JSON objects" in capsys.readouterr().err + done.output
