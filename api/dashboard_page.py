"""The dashboard: a page at ``/`` whose files all come from here, under a strict policy."""

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASSETS = "/dashboard"
FOLDER = Path(__file__).parent / "dashboard"
# Scripts come from our own files alone. Plotly's WebGL (regl) writes its draw calls as functions,
# which is all that 'unsafe-eval' is for: trusted types hold every such text to the page's one
# policy (trust.js), which knows draw calls by their form and refuses all else. The keyword
# 'trusted-types-eval' would say it better, but Chromium 150 then asks no policy. Plotly positions
# what it draws by style attributes; the hash is that of the one style element that it adds.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-eval'",
        "require-trusted-types-for 'script'",
        "trusted-types default",
        "style-src 'self' 'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='",
        "style-src-attr 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for again each time, and answered 304 when unchanged
}


class _Guarded:
    """Adds the page's headers to whatever an application answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_guarded)


def serve_dashboard(app: FastAPI) -> None:
    """Serves the page at ``/`` and its files below ``/dashboard/``, Plotly from its own package."""
    plotly = _plotly_file()

    @app.get("/", include_in_schema=False)
    def dashboard() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers=_HEADERS)

    @app.get(f"{ASSETS}/plotly.min.js", include_in_schema=False)
    def plotly_script() -> FileResponse:
        return FileResponse(plotly, media_type="text/javascript", headers=_HEADERS)

    app.mount(ASSETS, _Guarded(StaticFiles(directory=FOLDER)))


def _plotly_file() -> Path:
    """Returns the file in the installed package, which is not imported for it.

    Raises:
        FileNotFoundError: the package is not there, or is laid out in another way.
    """
    found = find_spec("plotly")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path
    raise FileNotFoundError("plotly.min.js is not installed; pip install 'convsweep[api]'")
