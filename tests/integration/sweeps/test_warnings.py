"""What no running worker has is said before a sweep starts, with names that are close."""

import uuid

import httpx
import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from cli.main import app
from services.monitoring.workers import note_worker_stopped, register_worker
from services.sweeps.warnings import find_warnings
from shared.domain.protocol import DeviceClass, Protocol, Timing

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def worker(session: Session) -> uuid.UUID:
    """A running worker on an H100 with two datasets."""
    worker_id = uuid.uuid4()
    register_worker(
        session, worker_id, hostname="box", pid=1, device_class="cuda", device=H100,
        code_version="1", datasets={"stl10": [], "digits": ["ab"]},
    )  # fmt: skip
    session.commit()
    return worker_id


def timed_on(model: str) -> Protocol:
    return Protocol(dataset="digits", timing=Timing(device_model=model))


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (Protocol(dataset="stl1o"), "the dataset 'stl1o'; they have: 'digits', 'stl10'. Did you "
         "mean 'stl10'?"),
        (timed_on("NVIDIA H100 80GB HBM2"), f"they have: '{H100}'. Did you mean '{H100}'?"),
        (timed_on("abacus"), f"the device model 'abacus'; they have: '{H100}'."),
        (Protocol(dataset="digits", device_class=DeviceClass.CPU), "the device class 'cpu'"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("worker")
def test_what_no_worker_has_is_named_with_what_is_close(
    protocol: Protocol, words: str, session: Session
) -> None:
    (warning,) = find_warnings(session, protocol)
    assert warning.startswith("No running worker has the ")
    assert words in warning


@pytest.mark.usefixtures("worker")
def test_what_a_worker_has_needs_no_warning(session: Session) -> None:
    assert find_warnings(session, timed_on(H100)) == []


def test_where_no_worker_runs_nothing_is_known(session: Session, worker: uuid.UUID) -> None:
    note_worker_stopped(session, worker)
    session.commit()
    assert find_warnings(session, Protocol(dataset="stl1o")) == []


@pytest.mark.usefixtures("worker")
def test_preview_and_creation_warn_over_http_and_in_the_terminal(api_url: str) -> None:
    body = {"preset": "quick", "protocol": {"dataset": "digit"}}
    for path, status in (("/v1/sweeps/preview", 200), ("/v1/sweeps", 201)):
        answer = httpx.post(f"{api_url}{path}", json=body)
        assert answer.status_code == status, answer.text
        (warning,) = answer.json()["warnings"]
        assert "Did you mean 'digits'?" in warning
    for command in ("preview", "start"):
        arguments = ["sweep", command, "--preset", "quick", "--dataset", "digit", "--url", api_url]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert f"warning: {warning}" in done.stderr
