"""A time limit for requests: slower ones get 503."""

import asyncio
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem

log = structlog.get_logger(__name__)

CREATION_S = 600.0  # ten million rows take minutes, and a partial sweep is useless


class Deadline:
    """Answers 503 where the application has not begun to answer in time.

    Database statements have their own limits; this one is for a Postgres that hangs with its
    connections open. The request may still take effect: repeating it is safe, except for a
    creation without an idempotency key.
    """

    def __init__(self, app: ASGIApp, answer_s: float) -> None:
        self._app = app
        self._answer_s = answer_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, too_late = asyncio.Event(), False

        async def send_in_time(message: Message) -> None:
            begun.set()
            if not too_late:
                await send(message)

        answering = asyncio.ensure_future(self._app(scope, receive, send_in_time))
        beginning = asyncio.ensure_future(begun.wait())
        await asyncio.wait(
            {answering, beginning},
            timeout=self._limit_s(scope),
            return_when=asyncio.FIRST_COMPLETED,
        )
        beginning.cancel()
        if begun.is_set() or answering.done():
            await answering
            return
        too_late = True
        answering.add_done_callback(_forget)
        log.warning("answer_too_late", path=scope["path"])
        answer = problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "No answer came in time; try again."
        )
        await answer(scope, receive, send)

    def _limit_s(self, scope: Scope) -> float:
        creates = (scope["method"], scope["path"]) == ("POST", "/v1/sweeps")
        return max(self._answer_s, CREATION_S) if creates else self._answer_s


def _forget(answering: "asyncio.Future[None]") -> None:
    """Logs the error of a request whose client already has its answer."""
    if not answering.cancelled() and answering.exception() is not None:
        log.warning("late_answer_failed", error=repr(answering.exception()))
