"""A small reverse proxy that serves an API below a path, as notebook servers do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PREFIX = "/proxy/8000"
_OWN = {"connection", "transfer-encoding", "content-length", "content-encoding", "date", "server"}


@contextmanager
def reverse_proxy(upstream: str, *, strips: bool) -> Iterator[str]:
    """Yields the address below which ``upstream`` is served; ``strips`` removes the path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # an answer ends with its connection

        def forward(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(PREFIX) if strips else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = [pair for pair in self.headers.items() if pair[0].lower() != "connection"]
            with httpx.stream(
                self.command, upstream + path, headers=headers, content=body, timeout=60
            ) as answer:
                self.send_response(answer.status_code)
                for name, value in answer.headers.multi_items():
                    if name not in _OWN:
                        self.send_header(name, value)
                self.end_headers()
                for piece in answer.iter_bytes():
                    self.wfile.write(piece)
                    self.wfile.flush()

        do_GET = do_POST = do_HEAD = forward  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, httpx.TransportError):
                self.close_connection = True  # one of the two sides left

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{PREFIX}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
