"""``convsweep analyze`` and ``convsweep plot`` against a real API."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from cli.main import app
from tests.integration.api.test_notebook import sweep_with_results
from tests.integration.listings import add_results
from tests.integration.scenario import add_sweep

KINDS = ("correlations", "pareto", "effects", "interactions", "importance")


@pytest.fixture
def url(api_url: str, session: Session) -> str:
    """The API on an empty database."""
    return api_url


def convsweep(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", url])


def answer(url: str, *arguments: str) -> Any:
    done = convsweep(url, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_every_analysis_prints_its_table_and_what_it_rests_on(
    kind: str, url: str, session: Session
) -> None:
    sweep_id = add_results(session)
    coverage = answer(url, "analyze", kind, "latest")["coverage"]
    done = convsweep(url, "analyze", kind, str(sweep_id))
    assert done.exit_code == 0, done.output
    assert f"{coverage['used']} of 192 networks" in done.output
    assert f"measured on {', '.join(coverage['device'])}" in " ".join(done.output.split())
    assert ("; throughputs of H100" in done.output) == (kind == "correlations")
    assert "kernel" in done.output
    narrower = answer(url, "analyze", kind, "latest", "-w", "stride[0]=1", "--device", "A100")
    assert narrower["coverage"]["used"] != coverage["used"]
    assert narrower["coverage"]["throughput_device"] == "A100"


def test_jobs_and_sweeps_are_compared(url: str, session: Session) -> None:
    first, second = sweep_with_results(session), sweep_with_results(session)
    done = convsweep(url, "analyze", "compare-jobs", "1", "2")
    assert done.exit_code == 0, done.output
    assert "McNemar's test (exact)" in done.output
    assert "16 images in 2 common trials" in done.output
    found = answer(url, "analyze", "compare-sweeps", str(first), str(second))
    assert found["spearman"] == pytest.approx(1)
    done = convsweep(url, "analyze", "compare-sweeps", str(first), str(second))
    assert "Spearman +1.000, Kendall +1.000" in done.output


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_writes_the_file_that_the_name_asks_for(
    suffix: str, url: str, session: Session, tmp_path: Path
) -> None:
    add_results(session)
    file = tmp_path / f"effects{suffix}"
    done = convsweep(url, "plot", "latest", "effects", "-o", str(file), "--target", "fitness")
    assert done.exit_code == 0, done.output
    start = {".png": b"\x89PNG", ".svg": b"<?xml"}[suffix]
    assert file.read_bytes().startswith(start)


def test_wrong_plots_are_refused_and_leave_no_file(
    url: str, session: Session, tmp_path: Path
) -> None:
    sweep_id = str(add_sweep(session))
    for kind, name in (("pie", "x.png"), ("scatter", "x.pdf"), ("scatter", "no/x.png")):
        done = convsweep(url, "plot", sweep_id, kind, "-o", str(tmp_path / name))
        assert done.exit_code == 1
    done = convsweep(url, "plot", sweep_id, "scatter", "-o", str(tmp_path / "x.png"))
    assert "at least two are needed" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
