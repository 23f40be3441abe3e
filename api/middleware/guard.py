"""Rejects requests of foreign pages, for foreign host names and with too large bodies."""

from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem
from shared.settings import LOOPBACK_NAMES

MAX_BODY_BYTES = 2**20
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Keeps other web pages from using the API through a visitor's browser; limits bodies.

    An API without keys answers only to loopback names, so that no foreign name can be pointed at
    it (DNS rebinding). Starlette's ``TrustedHostMiddleware`` would answer 400 in plain text; this
    answers 421 as problem details, like every error of this API. Requests that change something
    must come from the API's own origin or an allowed one.
    """

    def __init__(
        self, app: ASGIApp, *, keys_required: bool, allowed_origins: frozenset[str]
    ) -> None:
        self._app = app
        self._own_names = None if keys_required else LOOPBACK_NAMES
        self._allowed_origins = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        body = _BoundedBody(receive)
        await self._app(scope, body.receive, body.refusing(scope, send))

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._own_names is not None and _name(f"//{host}") not in self._own_names:
            return problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "foreign_host",
                f"This API answers to {', '.join(sorted(self._own_names))}, not to {host!r}.",
            )
        origin = headers.get("origin")
        if method not in READING_METHODS and not self._is_welcome(origin, host):
            return problem(
                HTTPStatus.FORBIDDEN,
                "foreign_origin",
                "Other origins may only read, unless CONVSWEEP_CORS_ORIGINS lists them.",
            )
        length = headers.get("content-length", "0")
        return _too_large() if length.isdigit() and int(length) > MAX_BODY_BYTES else None

    def _is_welcome(self, origin: str | None, host: str) -> bool:
        if origin is None or origin in self._allowed_origins:
            return True
        return _netloc(origin) == host


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _too_large() -> JSONResponse:
    return problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        f"A request may have {MAX_BODY_BYTES:,} bytes.",
    )


class _BoundedBody:
    """A request body that ends at the size limit; the answer is then the refusal."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self._bytes > MAX_BODY_BYTES else message

    def refusing(self, scope: Scope, send: Send) -> Send:
        refused = False

        async def send_or_refuse(message: Message) -> None:
            nonlocal refused
            if self._bytes <= MAX_BODY_BYTES:
                await send(message)
            elif not refused:
                refused = True
                await _too_large()(scope, self._receive, send)

        return send_or_refuse
