"""Serves the dashboard: a page at ``/`` with its own files and a strict content security policy."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASSETS = "/dashboard"
FOLDER = Path(__file__).parent / "dashboard"
# Scripts and styles come from our own files; text from users can become neither code nor markup.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # browsers ask each time and get 304 for an unchanged file
}


class _Guarded:
    """Adds the page's headers to every response of an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_guarded)


def serve_dashboard(app: FastAPI) -> None:
    """Serves the page at ``/`` and its files below ``/dashboard/``."""

    @app.get("/", include_in_schema=False)
    def dashboard() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers=_HEADERS)

    app.mount(ASSETS, _Guarded(StaticFiles(directory=FOLDER)))
