"""Devices over HTTP and in the terminal: comparing, bridging, calibrating, and what is refused."""

import json

import httpx
import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from cli.main import app
from services.leasing.group_leases import awaited_models
from tests.integration.calibration.fleet import STEADY, Worker, add_timed_sweep
from tests.integration.calibration.test_calibrated import GROUPS, on_gpu, on_other

H100, L4 = "H100", "L4"


@pytest.fixture
def sweep(session: Session, api_url: str) -> str:
    """The address of a sweep that an H100 has timed; an L4 runs, too."""
    sweep_id = add_timed_sweep(session, GROUPS)
    worker = Worker(session, "GPU-1", H100)
    for group in range(GROUPS):
        worker.evaluate(sweep_id, group, on_gpu)
    worker.run_references(STEADY)
    worker.run_references([0.98 * one for one in STEADY])
    return f"{api_url}/v1/sweeps/{sweep_id}"


def convsweep(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def refused(url: str, body: dict[str, object]) -> tuple[int, str, str]:
    answer = httpx.post(url, json=body)
    problem = answer.json()
    return answer.status_code, problem["code"], problem["detail"]


def time_bridge(session: Session, sweep_id: int) -> None:
    worker = Worker(session, "GPU-2", L4)
    for group in range(GROUPS):
        if awaited_models(session, sweep_id, group):
            worker.evaluate(sweep_id, group, on_other)


def test_a_user_bridges_calibrates_and_reads_predictions_from_the_terminal(
    sweep: str, session: Session, api_url: str
) -> None:
    sweep_id = sweep.rpartition("/")[2]
    Worker(session, "GPU-2", L4)
    at = ("--url", api_url)
    said = convsweep("analyze", "devices", sweep_id, *at)
    assert "-2.0 %" in said
    assert "GPU-1" in said
    said = convsweep("sweep", "bridge", sweep_id, "--device", L4, "--share", "0.5", *at)
    assert "networks are timed on L4" in said
    assert f"convsweep analyze devices {sweep_id}" in said
    said = convsweep("sweep", "calibrate", sweep_id, "--device", H100, *at)
    assert " 0 predicted on H100" in said
    time_bridge(session, int(sweep_id))
    made = json.loads(convsweep("sweep", "calibrate", sweep_id, "--device", L4, "--json", *at))
    assert made["predicted"] > 0
    said = convsweep("analyze", "devices", sweep_id, *at)
    assert f"{made['predicted']:,} predicted" in said
    assert "rank correlation" in said
    assert "L4 has not timed the references yet." in said
    said = convsweep("top", sweep_id, "--device", made["scale"], "-n", "500", *at)
    assert said.count("≈") == made["predicted"]
    raw = convsweep("top", sweep_id, "-n", "500", *at)
    assert "≈" not in raw


def test_too_few_networks_are_said_with_the_number_that_lacks(
    sweep: str, session: Session, api_url: str
) -> None:
    sweep_id = sweep.rpartition("/")[2]
    Worker(session, "GPU-2", L4)
    convsweep("sweep", "bridge", sweep_id, "--device", L4, "--share", "0.05", "--url", api_url)
    time_bridge(session, int(sweep_id))
    done = CliRunner().invoke(
        app, ["sweep", "calibrate", sweep_id, "--device", L4, "--url", api_url]
    )
    assert done.exit_code == 0
    assert "more needed" in done.output
    answer = httpx.get(f"{sweep}/analysis/devices").json()
    fits = {model["device"]: model["fits"] for model in answer["models"]}
    assert "more needed" in fits[L4][0]["problem"]
    assert fits[L4][0]["interval_factor"] is None


def test_what_cannot_be_done_is_a_problem_that_says_what_to_do(sweep: str) -> None:
    status, code, detail = refused(f"{sweep}/bridges", {"devices": ["A100"]})
    assert (status, code) == (422, "invalid_input")
    assert "'H100'" in detail
    status, code, detail = refused(f"{sweep}/calibrations", {"device": "A100"})
    assert (status, code) == (422, "invalid_input")
    assert "'H100'" in detail
    status, code, detail = refused(
        f"{sweep}/calibrations", {"device": H100, "reference_version": 9}
    )
    assert (status, code) == (422, "invalid_input")
    assert "known: 1" in detail
    unknown = httpx.get(f"{sweep}/analysis/devices", params={"reference_version": 9})
    assert unknown.status_code == 422
    for share in (0, 1.5, "NaN"):
        assert httpx.post(f"{sweep}/bridges", json={"share": share}).status_code == 422
    missing = httpx.get(f"{sweep}9999/analysis/devices")
    assert missing.json()["code"] == "sweep_not_found"
