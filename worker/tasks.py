"""The Celery tasks: they pass hints to the executor or the trainer."""

from collections.abc import Callable

import structlog
from celery import Celery
from celery.exceptions import WorkerShutdown

from shared.db.availability import DATABASE_UNAVAILABLE, retry_while_unavailable
from shared.domain.errors import DevicePoisonedError
from shared.messaging.messages import EVALUATE_GROUP, TRAIN_NETWORK
from worker.evaluation.executor import Executor
from worker.training.trainer import Trainer

log = structlog.get_logger(__name__)

DATABASE_RETRY_S = 0.5
KEEP_HINT_S = 60.0


def register_tasks(
    app: Celery, executor: Executor, trainer: Trainer, should_stop: Callable[[], bool]
) -> None:
    """Makes ``app`` answer hints about groups and about trainings.

    ``worker.refused_messages`` has checked every message before.
    """

    def answer_group_hint(sweep_id: int, group: int) -> None:
        _serve(lambda: executor.execute_group(sweep_id, group), should_stop)

    def answer_training_hint(training_id: int) -> None:
        _serve(lambda: trainer.train(training_id), should_stop)

    app.task(answer_group_hint, name=EVALUATE_GROUP, ignore_result=True)
    app.task(answer_training_hint, name=TRAIN_NETWORK, ignore_result=True)


def _serve(work: Callable[[], None], should_stop: Callable[[], bool]) -> None:
    """Does the work of a hint, and keeps the hint for a while where Postgres is unavailable.

    A hint given up at once would return only after the resend time, and all hints in the queue
    would be given up within a moment.
    """
    retry = retry_while_unavailable(
        max_s=KEEP_HINT_S, pause_s=DATABASE_RETRY_S, should_stop=should_stop
    )
    try:
        retry(work)
    except DevicePoisonedError as error:
        log.critical("device_poisoned", error=error.message)
        raise WorkerShutdown(1) from error
    except DATABASE_UNAVAILABLE:
        log.warning("hint_given_up")  # the work stays in Postgres and is hinted again
