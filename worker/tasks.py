"""The Celery tasks: they check a message and hand it on."""

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import structlog
from celery import Celery
from celery.exceptions import WorkerShutdown
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError

from shared.domain.errors import DevicePoisonedError
from shared.messaging.queue import EVALUATE_GROUP, TRAIN_NETWORK
from worker.evaluation.executor import Executor
from worker.training.trainer import Trainer

log = structlog.get_logger(__name__)

DATABASE_RETRY_S = 0.5
KEEP_HINT_S = 60.0
HintT = TypeVar("HintT", bound=BaseModel)


class Hint(BaseModel):
    """What a message may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sweep_id: Annotated[int, Field(ge=1, lt=2**63)]
    group: Annotated[int, Field(ge=0, lt=2**31)]


class TrainingHint(BaseModel):
    """What a message about a training may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    training_id: Annotated[int, Field(ge=1, lt=2**63)]


def register_tasks(app: Celery, executor: Executor, trainer: Trainer) -> None:
    """Makes ``app`` answer hints about groups and about trainings."""

    def evaluate_group(*args: Any, **message: Any) -> None:
        hint = _read(Hint, args, message)
        if hint is not None:
            _execute(
                lambda: executor.execute_group(hint.sweep_id, hint.group), executor.should_stop
            )

    def train_network(*args: Any, **message: Any) -> None:
        hint = _read(TrainingHint, args, message)
        if hint is not None:
            _execute(lambda: trainer.train(hint.training_id), trainer.should_stop)

    app.task(evaluate_group, name=EVALUATE_GROUP, ignore_result=True, typing=False)
    app.task(train_network, name=TRAIN_NETWORK, ignore_result=True, typing=False)


def _read(kind: type[HintT], args: Sequence[Any], message: dict[str, Any]) -> HintT | None:
    try:
        if args:
            raise ValueError("positional arguments")
        return kind.model_validate(message)
    except (ValidationError, ValueError) as error:
        log.warning("message_refused", error=str(error).splitlines()[0])
        return None


def _execute(work: Callable[[], None], should_stop: Callable[[], bool]) -> None:
    """Does what a hint is about, and keeps the hint for a while where Postgres is away.

    Given up at once, it would come again after the resend time alone, and all that wait in the
    queue would go the same way within a moment.
    """
    deadline = time.monotonic() + KEEP_HINT_S
    while True:
        try:
            work()
            return
        except DevicePoisonedError as error:
            log.critical("device_poisoned", error=error.message)
            raise WorkerShutdown(1) from error
        except (OperationalError, InterfaceError) as error:
            # the work stays in Postgres, and is hinted again
            log.warning("database_unavailable", error=str(error).splitlines()[0])
        if should_stop() or time.monotonic() > deadline:
            return
        time.sleep(DATABASE_RETRY_S)
