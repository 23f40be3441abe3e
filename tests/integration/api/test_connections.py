"""Clients that send slowly or open many connections keep no other client from being served."""

import asyncio
import errno
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from sqlalchemy.orm import Session

from api import connections
from api.middleware.security import HEADERS
from shared.settings import Settings, child_environment
from tests.conftest import free_port, serving
from tests.integration.scenario import add_sweep

FILES, FLOOD = 256, 600
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    monkeypatch.setattr(connections, "BODY_S", 1.0)


@contextmanager
def connected(url: str, data: bytes = b"") -> Iterator[socket.socket]:
    """Yields a connection over which ``data`` was sent."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as opened:
        opened.sendall(data)
        yield opened


def received(opened: socket.socket) -> bytes:
    """Returns everything that comes until the other side closes."""
    pieces = []
    try:
        while piece := opened.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.mark.parametrize("head", [b"", b"GET /healthz HT", HEAD, HEAD + b"X-Slow: 1"])
def test_a_head_that_does_not_end_in_time_is_given_up(
    head: bytes, impatient: None, migrated: Settings
) -> None:
    with serving(migrated) as url, connected(url, head) as slow:
        started = time.monotonic()
        assert received(slow).startswith(b"HTTP/1.1 408 ")
        assert 0.4 < time.monotonic() - started < 3


def test_a_head_that_trickles_in_does_not_extend_its_time(
    impatient: None, migrated: Settings
) -> None:
    with serving(migrated) as url, connected(url, HEAD) as slow:
        started = time.monotonic()
        with suppress(OSError):  # it cannot send once the other side has closed
            while time.monotonic() - started < 5:
                slow.sendall(b"X: 1\r\n")
                time.sleep(0.05)
        assert time.monotonic() - started < 3


def test_a_second_head_on_a_connection_has_the_same_time(
    impatient: None, migrated: Settings
) -> None:
    with serving(migrated) as url, connected(url, HEAD + b"\r\n") as slow:
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200 ")
        slow.sendall(HEAD)
        assert b"HTTP/1.1 408 " in received(slow)


def test_a_body_that_does_not_end_in_time_is_given_up(
    impatient: None, migrated: Settings, session: Session
) -> None:
    head = (
        b"POST /v1/sweeps HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 50\r\n\r\n"
    )
    with serving(migrated) as url, connected(url, head + b'{"preset"') as slow:
        started = time.monotonic()
        received(slow)
        assert 0.9 < time.monotonic() - started < 4
        assert httpx.get(f"{url}/v1/sweeps").json()["sweeps"] == []


def test_requests_in_time_are_served_one_after_the_other(
    impatient: None, migrated: Settings, session: Session
) -> None:
    with serving(migrated) as url, httpx.Client(base_url=url, timeout=30) as client:
        for _ in range(4):
            assert client.post("/v1/sweeps/preview", json={"preset": "quick"}).is_success
            time.sleep(0.4)


def test_what_is_no_request_is_refused_with_the_security_policy(migrated: Settings) -> None:
    with serving(migrated) as url, connected(url, b"\x16\x03\x01 nonsense\r\n\r\n") as broken:
        head, _, body = received(broken).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    assert body == "Invalid HTTP request received."
    for name, value in HEADERS.items():
        assert f"{name}: {value}" in head


def test_beyond_the_most_connections_the_longest_idle_makes_room(
    migrated: Settings, session: Session
) -> None:
    sweep_id = add_sweep(session)
    with serving(migrated.model_copy(update={"api_clients": 10})) as url, ExitStack() as stack:
        stream = b"GET /v1/sweeps/%d/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % sweep_id
        busy = stack.enter_context(connected(url, stream))
        assert busy.recv(100).startswith(b"HTTP/1.1 200 ")
        idle = []
        for _ in range(30):
            idle.append(stack.enter_context(connected(url, HEAD)))
            time.sleep(0.01)
        assert httpx.get(f"{url}/healthz", timeout=5).status_code == 200
        assert received(idle[0]) == b""
        busy.settimeout(0.2)
        with suppress(TimeoutError):  # the stream goes on: at most events, never an end
            while True:
                assert busy.recv(65_536)


def test_a_flood_of_connections_leaves_the_api_reachable_calm_and_quiet(
    migrated: Settings, tmp_path: Path
) -> None:
    settings = migrated.model_copy(update={"api_port": free_port(), "api_host": "127.0.0.1"})
    url = f"http://127.0.0.1:{settings.api_port}"
    with running(settings, tmp_path / "log") as process, ExitStack() as stack:
        for number in range(FLOOD):
            stack.enter_context(connected(url, HEAD if number % 2 else b""))
        spent = process.cpu_times()
        started = time.monotonic()
        while time.monotonic() - started < 5:
            assert httpx.get(f"{url}/healthz", timeout=2).status_code == 200
            time.sleep(0.1)
        now = process.cpu_times()
        assert now.user + now.system - spent.user - spent.system < 2.5
        assert process.num_fds() < FILES
    assert (tmp_path / "log").stat().st_size < 200_000


@contextmanager
def running(settings: Settings, file: Path) -> Iterator[psutil.Process]:
    """Runs the API as a process that may open few files."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

    with file.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "api"], env=child_environment(settings),
            stdout=output, stderr=output, preexec_fn=limit,  # noqa: PLW1509
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{settings.api_port}/healthz")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield psutil.Process(started.pid)
        finally:
            started.terminate()
            started.wait(timeout=30)


def test_files_that_run_out_are_reported_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.new_event_loop()
    report = connections.SampledErrors()
    for _ in range(1000):
        report(loop, {"message": "x", "exception": OSError(errno.EMFILE, "Too many open files")})
    loop.close()
    assert caplog.text.count("accept_failed") == 1
