"""A proxy before Postgres that cuts one connection around its next COMMIT."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

COMMIT = b"COMMIT\0"  # how psycopg2 says it


class Cut(StrEnum):
    """Where the connection ends."""

    BEFORE = "before the commit arrives"
    AFTER = "after the commit, before its answer"


class CuttingProxy:
    """Passes everything on, until asked to break the connection around the next COMMIT."""

    def __init__(self, target: str) -> None:
        self._target = target  # a unix socket
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut: Cut | None = None
        self.cuts = 0

    def serve(self) -> None:
        """Accepts connections until the listener closes."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._target)
            silent = threading.Event()
            answers = threading.Thread(target=_pump, args=(server, client, silent), daemon=True)
            answers.start()
            while data := client.recv(65_536):
                if self.cut is not None and COMMIT in data:
                    silent.set()  # no answer comes back from here on
                    self._cut_around(data, server, answers)
                    break
                server.sendall(data)
            else:
                server.shutdown(socket.SHUT_WR)
            answers.join()

    def _cut_around(self, data: bytes, server: socket.socket, answers: threading.Thread) -> None:
        """Returns when the session is over in Postgres; the client learns of its end only then."""
        cut, self.cut = self.cut, None
        self.cuts += 1
        if cut is Cut.AFTER:
            server.sendall(data + b"X\0\0\0\4")  # Postgres commits, then ends the session
        server.shutdown(socket.SHUT_WR)
        answers.join()


def _pump(source: socket.socket, sink: socket.socket, silent: threading.Event) -> None:
    """Reads until the source ends and passes on what comes, as long as the sink takes it."""
    while data := source.recv(65_536):
        if not silent.is_set():
            with suppress(OSError):
                sink.sendall(data)


@contextmanager
def cutting_proxy(target: str) -> Iterator[CuttingProxy]:
    """Runs a proxy in front of the Postgres that listens on a unix socket."""
    proxy = CuttingProxy(target)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
