"""Admission: checks the key of a request, its scope and its rate limit."""

from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.deps import transaction
from api.errors import database_problem, domain_problem, problem
from api.middleware.costs import cost_of
from api.middleware.guard import READING_METHODS
from api.middleware.rate_limits import Budget, RateLimits, Verdict
from services.access.keys import authenticate
from shared.db.availability import DATABASE_UNAVAILABLE
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
READ_ONLY_POSTS = frozenset({("POST", "/v1/sweeps/preview")})  # they change nothing


def needed_scope(method: str, path: str) -> KeyScope:
    """Returns the scope that a request needs; unknown paths need one too."""
    if path == KEY_PATHS[0] or path.startswith(KEY_PATHS[1]):
        return KeyScope.ADMIN
    return KeyScope.READ if _reads(method, path) else KeyScope.WRITE


def _reads(method: str, path: str) -> bool:
    return method in READING_METHODS or (method, path) in READ_ONLY_POSTS


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request that may proceed, and the rate-limit headers of its answer."""

    prefix: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Admission:
    """Answers 401, 403 or 429 to requests that may not proceed, before their body is read.

    Every path except the open ones needs a key, even one without a route. Where keys are off,
    requests are counted only by the address of their client.
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
        scope["convsweep.client"] = answer.prefix or _address(scope)
        if answer.prefix is not None:
            structlog.contextvars.bind_contextvars(key=answer.prefix)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(answer.headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _admit(self, scope: Scope) -> _Admitted | JSONResponse:
        address = _address(scope)
        needed = needed_scope(scope["method"], scope["path"])
        try:
            prefix = self._key_for(needed, scope) if self._keys_required else None
        except UnauthenticatedError as error:
            verdict = self._limits.take(Budget.FAILURE, address)
            return domain_problem(error) if _allows(verdict) else _rate_limited(verdict)
        except ConvsweepError as error:
            return domain_problem(error)
        except DATABASE_UNAVAILABLE as error:
            return database_problem(error)
        budget = Budget.READ if _reads(scope["method"], scope["path"]) else Budget.WRITE
        verdict = self._limits.take(budget, prefix or address, cost_of(scope["path"]))
        if not _allows(verdict):
            return _rate_limited(verdict)
        return _Admitted(prefix, verdict.headers if verdict else {})

    def _key_for(self, needed: KeyScope, scope: Scope) -> str:
        """Returns the prefix of the request's key.

        Raises:
            UnauthenticatedError: there is no key, or it is not valid.
            ScopeMissingError: the key is valid, but its scope is not enough.
        """
        text = _bearer(Headers(scope=scope))
        with transaction(self._sessions) as session:
            holder = authenticate(session, text)
        if not holder.scope.includes(needed):
            raise ScopeMissingError(
                f"Key {holder.prefix} has the scope {holder.scope}; this needs {needed}. "
                "The operator of the service can create another: convsweep key create."
            )
        return holder.prefix


def _address(scope: Scope) -> str:
    return str(scope["client"][0]) if scope["client"] else "unknown"


def _bearer(headers: Headers) -> str:
    """Returns the key that a request carries.

    Raises:
        KeyMissingError: it carries no key.
        KeyInvalidError: its header is not a bearer key.
    """
    given = headers.getlist("authorization")
    if not given:
        raise KeyMissingError(
            "This API requires a key: Authorization: Bearer csw_... The command line takes it from "
            "CONVSWEEP_API_KEY or the file that CONVSWEEP_API_KEY_FILE names."
        )
    scheme, _, key = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer":
        raise KeyInvalidError("Send exactly one header Authorization: Bearer csw_...")
    return key.strip()


def _allows(verdict: Verdict | None) -> bool:
    return verdict is None or verdict.allowed


def _rate_limited(verdict: Verdict | None) -> JSONResponse:
    assert verdict is not None
    answer = problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        f"More than {verdict.limit} requests of this kind in a minute; "
        f"try again in {verdict.reset_s} s.",
    )
    answer.headers.update(verdict.headers)
    return answer
