"""Refuses messages that are no hints before they reach Celery, whose consumer they would end."""

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, bootsteps
from redis import Redis, RedisError

from shared.messaging.broker import keep_refused
from shared.messaging.messages import read_message

log = structlog.get_logger(__name__)

SHOWN_BYTES = 200  # of a refused message in the log
Reply = Any  # of Redis to BRPOP: the list and what was taken from it, or nothing


class MessageFilter:
    """Checks what is taken from the queue before Celery sees it.

    What is no hint goes to a list of refused messages and is logged and counted.
    """

    def __init__(self, broker: Redis, on_refused: Callable[[], None]) -> None:
        self._broker = broker
        self._on_refused = on_refused

    def install(self, app: Celery) -> None:
        """Puts the filter before the app's consumer, also after each reconnection."""
        app.steps["consumer"].add(_consumer_step(self))

    def check(self, reply: Reply) -> Reply:
        """Returns a reply to BRPOP; None, as if nothing had come, where the message is no hint."""
        if not reply:
            return None
        raw = bytes(reply[1])
        try:
            read_message(raw)
        except ValueError as error:
            self._refuse(raw, str(error).splitlines()[0])
            return None
        return reply

    def _refuse(self, raw: bytes, reason: str) -> None:
        shown = raw[:SHOWN_BYTES].decode(errors="replace")
        log.warning("message_refused", reason=reason, message=shown)
        self._on_refused()
        try:
            keep_refused(self._broker, raw)
        except RedisError as error:
            log.warning("refused_message_not_kept", error=str(error))


def _consumer_step(message_filter: MessageFilter) -> type[bootsteps.StartStopStep]:
    class FilterStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """Runs after Celery's consumer has its channel and before it takes a message."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            client = parent.task_consumer.channel.client
            client.set_response_callback("BRPOP", lambda reply, **_: message_filter.check(reply))

    return FilterStep
