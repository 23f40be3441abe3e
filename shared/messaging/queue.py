"""The message queue: the Celery app, and sending hints about work."""

from celery import Celery
from kombu.entity import Queue

from shared.messaging.broker import QUEUE_NAME
from shared.messaging.messages import EVALUATE_GROUP, TRAIN_NETWORK, GroupHint, TrainingHint
from shared.settings import Settings


def make_celery(settings: Settings) -> Celery:
    """Returns the Celery app for ``settings``: JSON only, no results, one message at a time.

    A message is only a hint, so none is acknowledged: the loss of one costs time, never a result,
    because the jobs table is the source of truth.
    """
    app = Celery("convsweep", broker=settings.full_broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_default_queue=QUEUE_NAME,
        # no acknowledgement: one that fails would block its consumer forever
        task_queues=[Queue(QUEUE_NAME, no_ack=True)],  # type: ignore[no-untyped-call]
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=False,
        # its subscription reads without a timeout: a worker hung there after a broker's restart
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=5,
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "retry_on_timeout": True,
            "health_check_interval": 5,
            "max_retries": 0,  # the sender repeats by itself and has other work meanwhile
        },
    )
    return app


class HintQueue:
    """Sends hints about groups and trainings, and counts those that wait."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __len__(self) -> int:
        """Returns how many hints wait for a worker.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        with self._app.connection_for_write() as connection:
            channel = connection.default_channel
            queue = self._app.amqp.queues[QUEUE_NAME](channel)
            return int(queue.queue_declare(passive=False).message_count)

    def send(self, sweep_id: int, group: int) -> None:
        """Sends a hint about a group. It may be lost, repeated or late.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        self._send(EVALUATE_GROUP, GroupHint(sweep_id=sweep_id, group=group))

    def send_training(self, training_id: int) -> None:
        """Sends a hint about a training. It may be lost, repeated or late.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        self._send(TRAIN_NETWORK, TrainingHint(training_id=training_id))

    def _send(self, task: str, hint: GroupHint | TrainingHint) -> None:
        self._app.send_task(task, kwargs=hint.model_dump(), retry=False, ignore_result=True)
