"""Admission: checks the key of a request, its scope and its rate limit."""

import asyncio
import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.computing.places import Places
from api.deps import transaction
from api.errors import database_problem, domain_problem, problem
from api.middleware.costs import cost_of, is_computed
from api.middleware.guard import READING_METHODS
from api.middleware.rate_limits import Budget, RateLimits, Refusals, Verdict
from services.access.keys import authenticate
from shared.db.availability import DATABASE_UNAVAILABLE
from shared.domain.access import KeyScope
from shared.domain.errors import (
    BusyError,
    ConvsweepError,
    KeyInvalidError,
    KeyMissingError,
    ScopeMissingError,
    UnauthenticatedError,
)
from shared.settings import Settings

log = structlog.get_logger(__name__)

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs"})
OPEN_FOLDERS = ("/dashboard/", "/docs/")
KEY_PATHS = ("/v1/keys", "/v1/keys/")
REPEATED_S = 0.5  # delay of a refusal that a client was given a moment ago
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

    client: str  # the prefix of its key, or its address where keys are off
    prefix: str | None
    headers: dict[str, str] = field(default_factory=dict)


class Admission:
    """Answers 401, 403 or 429 to requests that may not proceed, before their body is read.

    Every path except the open ones needs a key, even one without a route. Where keys are off,
    requests are counted only by the address of their client.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        sessions: sessionmaker[Session],
        computing: Places,
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._computing = computing
        self._keys_required = settings.api_keys == "required"
        self._limits = RateLimits(settings)
        self._refusals = Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
            await self._app(scope, receive, send)
            return
        answer = await self._answer(scope)
        if isinstance(answer, JSONResponse):
            await answer(scope, receive, send)
            return
        scope["convsweep.key"] = answer.prefix
        scope["convsweep.client"] = answer.client
        if answer.prefix is not None:
            structlog.contextvars.bind_contextvars(key=answer.prefix)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(answer.headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    async def _answer(self, scope: Scope) -> _Admitted | JSONResponse:
        """Admits or refuses a request; one that comes again at once waits for its refusal."""
        repeated = self._refusals.find(_identity(scope))
        if repeated is not None:
            await asyncio.sleep(REPEATED_S)
            return _rate_limited(repeated)
        answer = await run_in_threadpool(self._admit, scope)
        if isinstance(answer, _Admitted) and is_computed(scope["path"]):
            try:  # before the body is read
                self._computing.check(answer.client)
            except BusyError as error:
                await asyncio.sleep(REPEATED_S)
                return domain_problem(error)
        return answer

    def _admit(self, scope: Scope) -> _Admitted | JSONResponse:
        address = str(scope["client"][0]) if scope["client"] else "unknown"
        needed = needed_scope(scope["method"], scope["path"])
        try:
            prefix = self._key_for(needed, scope) if self._keys_required else None
        except UnauthenticatedError as error:
            log.warning("login_failed", address=address, reason=error.code)
            refusal = self._take(scope, Budget.FAILURE, address)
            return refusal if isinstance(refusal, JSONResponse) else domain_problem(error)
        except ConvsweepError as error:
            return domain_problem(error)
        except DATABASE_UNAVAILABLE as error:
            return database_problem(error)
        client = prefix or address
        headers = self._take(scope, _budget(scope), client, cost_of(scope["path"]))
        if isinstance(headers, JSONResponse):
            return headers
        return _Admitted(client, prefix, headers)

    def _take(
        self, scope: Scope, budget: Budget, client: str, cost: int = 1
    ) -> dict[str, str] | JSONResponse:
        """Takes a request from a budget; returns the headers that report it, or the refusal."""
        verdict = self._limits.take(budget, client, cost)
        if verdict is None or verdict.allowed:
            return verdict.headers if verdict else {}
        self._refusals.note(_identity(scope), verdict)
        return _rate_limited(verdict)

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


def _budget(scope: Scope) -> Budget:
    return Budget.READ if _reads(scope["method"], scope["path"]) else Budget.WRITE


def _identity(scope: Scope) -> Hashable:
    """Returns what decides about a request: budget, address, and a hash of what it shows as key."""
    keys = "\0".join(Headers(scope=scope).getlist("authorization")).encode()
    return _budget(scope), scope["client"] and scope["client"][0], hashlib.sha256(keys).digest()


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


def _rate_limited(verdict: Verdict) -> JSONResponse:
    answer = problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        f"More than {verdict.limit} requests of this kind in a minute; "
        f"try again in {verdict.reset_s} s.",
    )
    answer.headers.update(verdict.headers)
    return answer
