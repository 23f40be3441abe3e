"""docs/notebook.md runs as it is written."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from services.sweeps.creation import create_sweep
from shared.domain.protocol import Order, Protocol
from tests.integration.scenario import GROUPS, claimed, complete, small_space, success, trial

PAGE = Path(__file__).parents[3] / "docs/notebook.md"


def sweep_with_results(session: Session) -> int:
    """Makes a sweep in which accuracy and throughput depend on the network."""
    protocol = Protocol(
        dataset="digits", input_shape=(1, 32, 32), trials=2, validation_images=16, order=Order.GRID
    )
    sweep_id = create_sweep(session, small_space(), protocol).id
    session.commit()
    for group in range(GROUPS):
        held = claimed(session, sweep_id, group)
        outcomes = [
            success([trial(n, 0.3 + 0.1 * group + 0.03 * place, 900 - 70 * group + place * place)
                     for n in job.trials])
            for place, job in enumerate(held.jobs)
        ]  # fmt: skip
        complete(session, held, outcomes)
    return sweep_id


def test_every_block_of_the_notebook_runs_in_order(
    api_url: str,
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"URL": api_url, "SWEEP": sweep_with_results(session)}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(names["frame"]) == 12
    assert names["correlations"].loc["accuracy", "accuracy"] == pytest.approx(1)
    assert set(names["front"]["id"]) <= set(names["frame"]["id"])
    assert b"</svg>" in (tmp_path / "scatter.svg").read_bytes()
    assert "exact" in capsys.readouterr().out
