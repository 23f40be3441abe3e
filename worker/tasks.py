"""The Celery task: checks a message and hands it on."""

import time
from typing import Annotated, Any

import structlog
from celery import Celery
from celery.exceptions import WorkerShutdown
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError

from shared.errors import DevicePoisonedError
from shared.queue import EVALUATE_GROUP
from worker.execution import Executor

log = structlog.get_logger(__name__)

DATABASE_RETRY_S = 0.5
KEEP_HINT_S = 60.0


class Hint(BaseModel):
    """What a message may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sweep_id: Annotated[int, Field(ge=1, lt=2**63)]
    group: Annotated[int, Field(ge=0, lt=2**31)]


def register_tasks(app: Celery, executor: Executor) -> None:
    """Makes ``app`` answer hints with ``executor``."""

    def evaluate_group(*args: Any, **message: Any) -> None:
        try:
            hint = Hint.model_validate(message)
            if args:
                raise ValueError("positional arguments")
        except (ValidationError, ValueError) as error:
            log.warning("message_refused", error=str(error).splitlines()[0])
            return
        try:
            _execute(executor, hint)
        except DevicePoisonedError as error:
            log.critical("device_poisoned", error=error.message)
            raise WorkerShutdown(1) from error

    app.task(evaluate_group, name=EVALUATE_GROUP, ignore_result=True, typing=False)


def _execute(executor: Executor, hint: Hint) -> None:
    """Does what a hint is about, and keeps the hint for a while where Postgres is away.

    Given up at once, it would come again after the resend time alone, and all that wait in the
    queue would go the same way within a moment.
    """
    deadline = time.monotonic() + KEEP_HINT_S
    while True:
        try:
            executor.execute_group(hint.sweep_id, hint.group)
            return
        except (OperationalError, InterfaceError) as error:
            # the jobs stay in Postgres, and their group is hinted again
            log.warning("database_unavailable", error=str(error).splitlines()[0])
        if executor.should_stop() or time.monotonic() > deadline:
            return
        time.sleep(DATABASE_RETRY_S)
