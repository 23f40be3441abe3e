"""Streams of events from real API processes: cut, resumed elsewhere, stopped, too many."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent
from sqlalchemy.orm import Session

from shared.db.session import make_session_factory
from shared.settings import child_environment
from tests.acceptance.faults.site import ROOT, Child, Postgres, Site
from tests.acceptance.faults.test_api import start_api
from tests.conftest import free_port
from tests.integration.api.test_api import assert_problem
from tests.integration.scenario import add_sweep, claimed, complete, success, trial

Json = dict[str, Any]
GROUPS = 8
STOP_S = 8.0  # within the grace of ten seconds


class Listener(threading.Thread):
    """Listens to a stream in a thread until it ends or is cut."""

    def __init__(self, url: str, sweep_id: int, last_event_id: str = "") -> None:
        super().__init__(daemon=True)
        self.messages: list[ServerSentEvent] = []
        self.headers = httpx.Headers()
        self.retry: int | None = None
        self._address = f"{url}/v1/sweeps/{sweep_id}/events"
        self._last_event_id = last_event_id
        self.start()

    def run(self) -> None:
        asked = {"Last-Event-ID": self._last_event_id} if self._last_event_id else {}
        with (
            suppress(httpx.TransportError, httpx.StreamError),
            httpx.Client(timeout=40) as client,
            client.stream("GET", self._address, headers=asked) as answer,
        ):
            self.headers = answer.headers
            for message in EventSource(answer).iter_sse():
                self.retry = self.retry if message.retry is None else message.retry
                self.messages.append(message)

    def heard(self, kind: str) -> list[Json]:
        return [message.json() for message in self.messages if message.event == kind]

    def jobs(self) -> list[int]:
        return [leader["job_id"] for leader in self.heard("leader")]

    @property
    def last_event_id(self) -> str:
        return [message.id for message in self.messages if message.id][-1]


def finish_group(session: Session, sweep_id: int, group: int) -> list[int]:
    """Completes a group with networks that are better than all before, and returns the jobs."""
    held = claimed(session, sweep_id, group)
    outcomes = [
        success([trial(n, 0.01 * (group + 1) + 0.001 * index) for n in job.trials])
        for index, job in enumerate(held.jobs)
    ]
    complete(session, held, outcomes)
    return [job.id for job in held.jobs]


@pytest.fixture(autouse=True)
def _listeners_end(site: Site) -> Iterator[None]:
    """Ends the streams, and with them the threads and sockets that listen."""
    yield
    for child in site.children:
        child.kill()
    for thread in threading.enumerate():
        if isinstance(thread, Listener):
            thread.join(10)


@pytest.fixture
def session(site: Site) -> Any:
    with make_session_factory(site.database)() as opened:
        yield opened


@pytest.fixture
def sweep_id(session: Session) -> int:
    return add_sweep(session, groups=GROUPS)


def test_a_stream_reports_progress_leaders_workers_and_the_end_and_closes(
    site: Site, session: Session, sweep_id: int
) -> None:
    _, url = start_api(site)
    listener = Listener(url, sweep_id)
    site.wait(lambda: bool(listener.heard("progress")), "the first progress")
    leaders = [job for group in range(GROUPS) for job in finish_group(session, sweep_id, group)]
    listener.join(30)
    assert not listener.is_alive()
    assert listener.headers["content-type"].startswith("text/event-stream")
    assert listener.headers["cache-control"] == "no-cache"
    assert listener.retry == 2000
    assert listener.jobs() == leaders
    assert {worker["change"] for worker in listener.heard("worker")} >= {"joined"}
    [end] = listener.heard("end")
    assert (end["status"], end["finished"], end["total"]) == ("completed", 32, 32)
    assert listener.messages[-1].event == "end"
    late = Listener(url, sweep_id)  # of a sweep that is over
    late.join(10)
    assert set(late.jobs()) == set(leaders[-10:])
    assert late.messages[-1].event == "end"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_over_cuts_restarts_and_processes_every_leader_is_reported_once(
    end: signal.Signals, site: Site, session: Session, sweep_id: int
) -> None:
    first, url = start_api(site)
    _, other_url = start_api(site)
    one = Listener(url, sweep_id)
    site.wait(lambda: bool(one.heard("progress")), "the first progress")
    expected = finish_group(session, sweep_id, 0)
    site.wait(lambda: one.jobs() == expected, "the first leaders")
    first.send(end)
    first.process.wait(STOP_S)
    one.join(5)
    missed = finish_group(session, sweep_id, 1) + finish_group(session, sweep_id, 2)
    two = Listener(other_url, sweep_id, one.last_event_id)  # in another process
    site.wait(lambda: two.jobs() == missed, "the leaders that were missed")
    site.wait(lambda: _finished(two) == 12, "the progress after the leaders")
    _, url = start_api(site)  # in a new one
    three = Listener(url, sweep_id, two.last_event_id)
    rest = [job for group in range(3, GROUPS) for job in finish_group(session, sweep_id, group)]
    three.join(30)
    assert three.jobs() == rest
    assert three.heard("end")
    assert len(rest) == len(set(rest)) == 20


def _finished(listener: Listener) -> int | None:
    """Returns the jobs that the last progress event counts; leaders may arrive before it."""
    progress = listener.heard("progress")
    return progress[-1]["finished"] if progress else None


def test_sigterm_ends_the_streams_in_time(site: Site, sweep_id: int) -> None:
    api, url = start_api(site)
    listeners = [Listener(url, sweep_id) for _ in range(5)]
    site.wait(lambda: all(one.heard("progress") for one in listeners), "five streams")
    api.send(signal.SIGTERM)
    api.process.wait(STOP_S)
    for listener in listeners:
        listener.join(2)
        assert not listener.is_alive()
        assert not listener.heard("end")
    assert "Traceback" not in api.text()


def test_one_stream_too_many_is_answered_503_and_room_is_made_at_once(
    site: Site, sweep_id: int
) -> None:
    port = free_port()
    site.start("api", CONVSWEEP_API_PORT=str(port), CONVSWEEP_API_STREAMS="1")
    address = f"http://127.0.0.1:{port}/v1/sweeps/{sweep_id}/events"
    site.wait(lambda: _answers(f"http://127.0.0.1:{port}/readyz"), "the API's start")
    with httpx.Client(timeout=20) as client:
        with client.stream("GET", address) as first:
            assert first.status_code == 200
            refused = httpx.get(address, timeout=20)
            assert_problem(refused, 503, "unavailable")
            assert "1 streams" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) > 0

        def is_free() -> bool:
            with client.stream("GET", address) as again:
                return again.status_code == 200

        site.wait(is_free, "room for another stream", s=5)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def test_a_wrong_last_event_id_is_refused_and_so_is_a_sweep_that_is_not_there(
    site: Site, sweep_id: int
) -> None:
    _, url = start_api(site)
    address = f"{url}/v1/sweeps/{sweep_id}/events"
    for wrong in ("x", "e30=", "a" * 5000):
        answer = httpx.get(address, headers={"Last-Event-ID": wrong}, timeout=20)
        problem = assert_problem(answer, 422, "invalid_input")
        assert [error["field"] for error in problem["errors"]] == ["Last-Event-ID"]
    assert_problem(httpx.get(f"{url}/v1/sweeps/404/events", timeout=20), 404, "sweep_not_found")


def test_a_stream_outlives_a_restart_of_postgres(
    site: Site, postgres: Postgres, session: Session, sweep_id: int
) -> None:
    _, url = start_api(site)
    listener = Listener(url, sweep_id)
    expected = finish_group(session, sweep_id, 0)
    site.wait(lambda: listener.jobs() == expected, "the first leaders")
    session.close()
    postgres.stop("immediate")
    try:
        site.wait(lambda: bool(listener.heard("unavailable")), "word of the outage", s=20)
        assert_problem(
            httpx.get(f"{url}/v1/sweeps/{sweep_id}/events", timeout=30), 503, "unavailable"
        )
    finally:
        postgres.start()
    expected += [
        job for group in range(1, GROUPS) for job in finish_group(session, sweep_id, group)
    ]
    listener.join(30)
    assert listener.jobs() == expected
    assert len(listener.heard("unavailable")) == 1
    assert listener.heard("end")


def watching(site: Site, port: int, sweep_id: int, *options: str) -> subprocess.Popen[str]:
    """Starts ``convsweep sweep watch``."""
    command = ["sweep", "watch", str(sweep_id), "--url", f"http://127.0.0.1:{port}", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *command],
        env=child_environment(site.settings) | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def start_api_at(site: Site, port: int) -> Child:
    api = site.start("api", CONVSWEEP_API_PORT=str(port))
    site.wait(lambda: _answers(f"http://127.0.0.1:{port}/readyz"), "the API's start")
    return api


def test_the_command_line_watches_over_a_restart_of_the_api(
    site: Site, session: Session, sweep_id: int
) -> None:
    port = free_port()
    api = start_api_at(site, port)
    expected = finish_group(session, sweep_id, 0)
    with (
        watching(site, port, sweep_id, "--json") as scripts,
        watching(site, port, sweep_id) as people,
    ):
        assert scripts.stdout is not None
        assert people.stdout is not None
        shown = people.stdout.readline()
        lines = [json.loads(scripts.stdout.readline())]
        while lines[-1]["event"] != "progress":
            lines.append(json.loads(scripts.stdout.readline()))
        api.stop()
        expected += finish_group(session, sweep_id, 1)
        start_api_at(site, port)
        expected += [
            job for group in range(2, GROUPS) for job in finish_group(session, sweep_id, group)
        ]
        lines += [json.loads(line) for line in scripts.stdout]
        shown += people.stdout.read()
    assert [line["job_id"] for line in lines if line["event"] == "leader"] == expected
    assert (lines[-1]["event"], lines[-1]["status"]) == ("end", "completed")
    assert any(line["event"] == "unavailable" for line in lines)
    assert (scripts.returncode, people.returncode) == (0, 0)
    for job in expected:
        assert shown.count(f", job {job}: ") == 1
    assert "32 of 32, completed" in shown
