"""Every wait has an end: limits on statements, locks, idle transactions and sockets."""

import socket
import time
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from shared.db.session import make_engine
from shared.messaging.queue import HintQueue, make_celery
from shared.settings import Settings

BROKER_LIMIT_S = 30.0


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("statement_timeout", "1min"),
        ("lock_timeout", "15s"),
        ("idle_in_transaction_session_timeout", "1min"),
    ],
)
def test_every_connection_has_limits_that_postgres_holds(
    database: Engine, name: str, limit: str
) -> None:
    with database.connect() as connection:
        assert connection.execute(text(f"SHOW {name}")).scalar_one() == limit


def test_every_connection_notices_a_peer_that_is_gone(database: Engine) -> None:
    with database.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        options = driver.get_dsn_parameters()
    assert int(options["connect_timeout"]) == 5
    assert int(options["tcp_user_timeout"]) == 25_000
    quiet_s = int(options["keepalives_idle"])
    quiet_s += int(options["keepalives_interval"]) * int(options["keepalives_count"])
    assert quiet_s == 25


def test_postgres_that_accepts_and_says_nothing_is_given_up(migrated: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg2://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres"
        engine = make_engine(migrated.model_copy(update={"database_url": url}))
        started = time.monotonic()
        with pytest.raises(OperationalError, match="timeout"):
            engine.connect()
    assert time.monotonic() - started < 10


def test_broker_that_accepts_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        app = make_celery(Settings(broker_url=url, data_dir=tmp_path))
        hints, started = HintQueue(app), time.monotonic()
        with pytest.raises(BrokerError):
            len(hints)
        app.close()
    assert time.monotonic() - started < BROKER_LIMIT_S
