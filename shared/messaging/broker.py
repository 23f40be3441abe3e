"""Redis or Valkey without Celery: its address for Redis' own client, and what waits there."""

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from shared.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

QUEUE_NAME = "convsweep"  # Celery keeps a queue as a list of this name
REFUSED_NAME = "convsweep.refused"  # messages that are no hint, the newest first
REFUSED_KEPT = 100
REFUSED_BYTES = 4096  # kept of each


def client_url(broker_url: str) -> str:
    """Returns Celery's URL of a broker in the form that Redis' client understands."""
    if not broker_url.startswith("redis+socket://"):
        return broker_url
    parts = urlsplit(broker_url)
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    return f"unix://{parts.path}?db={database}"


def connect_broker(settings: Settings, timeout_s: float) -> "Redis":
    """Returns a client that gives up after ``timeout_s`` seconds; it connects at its first command.

    Imports Redis' library only here, because most processes do not need it.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        client_url(settings.full_broker_url),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def count_hints(broker: "Redis") -> int:
    """Returns how many hints wait for a worker.

    Raises:
        redis.RedisError: the broker does not answer.
    """
    return _length(broker, QUEUE_NAME)


def keep_refused(broker: "Redis", message: bytes) -> None:
    """Keeps the beginning of a message that is no hint, and the latest 100 in all.

    Raises:
        redis.RedisError: the broker does not answer.
    """
    with broker.pipeline(transaction=False) as pipeline:
        pipeline.lpush(REFUSED_NAME, message[:REFUSED_BYTES])
        pipeline.ltrim(REFUSED_NAME, 0, REFUSED_KEPT - 1)
        pipeline.execute()


def count_refused(broker: "Redis") -> int:
    """Returns how many refused messages are kept.

    Raises:
        redis.RedisError: the broker does not answer.
    """
    return _length(broker, REFUSED_NAME)


def _length(broker: "Redis", name: str) -> int:
    length = broker.llen(name)
    assert isinstance(length, int)
    return length
