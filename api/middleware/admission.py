"""Who is let in: a key where one is needed, its scope, and how often it may ask."""

from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.deps import transaction
from api.errors import DATABASE_AWAY, database_problem, domain_problem, problem
from api.middleware.guard import READING
from api.middleware.rate_limits import Budget, RateLimits, Verdict
from services.access.keys import authenticate
from shared.domain.access import KeyScope
from shared.domain.errors import (
    ConvsweepError,
    KeyInvalidError,
    KeyMissingError,
    ScopeMissingError,
    UnauthenticatedError,
)
from shared.settings import Settings

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs"})
OPEN_FOLDERS = ("/dashboard/", "/docs/")
KEY_PATHS = ("/v1/keys", "/v1/keys/")
ASKING = frozenset({("POST", "/v1/sweeps/preview")})  # a body, but nothing changes


def needed_scope(method: str, path: str) -> KeyScope:
    """Returns what a key must be for. A route that nobody thought of here is not open."""
    if path == KEY_PATHS[0] or path.startswith(KEY_PATHS[1]):
        return KeyScope.ADMIN
    if method in READING or (method, path) in ASKING:
        return KeyScope.READ
    return KeyScope.WRITE


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request that may go on, and what its answer says of the rate limit."""

    prefix: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Admission:
    """Answers 401, 403 or 429 to requests that may not go on, before anything reads their body.

    Every path but the open ones needs a key, also one that leads nowhere. Where keys are off,
    requests are counted by their client's address alone.
    """

    def __init__(self, app: ASGIApp, settings: Settings, sessions: sessionmaker[Session]) -> None:
        self._app = app
        self._sessions = sessions
        self._keys_required = settings.api_keys == "required"
        self._limits = RateLimits(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
            await self._app(scope, receive, send)
            return
        answer = await run_in_threadpool(self._admit, scope)
        if isinstance(answer, JSONResponse):
            await answer(scope, receive, send)
            return
        scope["convsweep.key"] = answer.prefix
        if answer.prefix is not None:
            structlog.contextvars.bind_contextvars(key=answer.prefix)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(answer.headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _admit(self, scope: Scope) -> _Admitted | JSONResponse:
        address = scope["client"][0] if scope["client"] else "unknown"
        needed = needed_scope(scope["method"], scope["path"])
        try:
            prefix = self._key_for(needed, scope) if self._keys_required else None
        except UnauthenticatedError as error:
            verdict = self._limits.take(Budget.FAILURE, address)
            return domain_problem(error) if _allows(verdict) else _too_often(verdict)
        except ConvsweepError as error:
            return domain_problem(error)
        except DATABASE_AWAY as error:
            return database_problem(error)
        reads = scope["method"] in READING or (scope["method"], scope["path"]) in ASKING
        verdict = self._limits.take(Budget.READ if reads else Budget.WRITE, prefix or address)
        if not _allows(verdict):
            return _too_often(verdict)
        return _Admitted(prefix, verdict.headers if verdict else {})

    def _key_for(self, needed: KeyScope, scope: Scope) -> str:
        """Returns the prefix of the request's key.

        Raises:
            UnauthenticatedError: there is none, or it is not good.
            ScopeMissingError: it is good, but not for this.
        """
        text = _bearer(Headers(scope=scope))
        with transaction(self._sessions) as session:
            holder = authenticate(session, text)
        if not holder.scope.includes(needed):
            raise ScopeMissingError(
                f"Key {holder.prefix} is for {holder.scope}; this needs {needed}. "
                "Whoever runs the service can make another: convsweep key create."
            )
        return holder.prefix


def _bearer(headers: Headers) -> str:
    """Returns the key that a request carries.

    Raises:
        KeyMissingError: it carries none.
        KeyInvalidError: what it carries is no bearer key.
    """
    given = headers.getlist("authorization")
    if not given:
        raise KeyMissingError(
            "This API wants a key: Authorization: Bearer csw_... The command line takes it from "
            "CONVSWEEP_API_KEY or the file that CONVSWEEP_API_KEY_FILE names."
        )
    scheme, _, key = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer":
        raise KeyInvalidError("One header is wanted: Authorization: Bearer csw_...")
    return key.strip()


def _allows(verdict: Verdict | None) -> bool:
    return verdict is None or verdict.allowed


def _too_often(verdict: Verdict | None) -> JSONResponse:
    assert verdict is not None
    answer = problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        f"More than {verdict.limit} requests of this kind in a minute; "
        f"try again in {verdict.reset_s} s.",
    )
    answer.headers.update(verdict.headers)
    return answer
