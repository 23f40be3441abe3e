"""A Postgres whose answers can be lost."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.db.session import make_engine, make_session_factory
from shared.settings import Settings
from tests.conftest import SessionFactory
from tests.integration.database.cutting_proxy import CuttingProxy, cutting_proxy


@pytest.fixture
def proxy(migrated: Settings) -> Iterator[CuttingProxy]:
    folder = parse_qs(urlsplit(migrated.database_url).query)["host"][0]
    with cutting_proxy(f"{folder}/.s.PGSQL.5432") as running:
        yield running


@pytest.fixture
def far_sessions(migrated: Settings, proxy: CuttingProxy) -> Iterator[SessionFactory]:
    """Sessions through the proxy, with a pool like the worker's."""
    name = urlsplit(migrated.database_url).path
    url = f"postgresql+psycopg2://postgres@127.0.0.1:{proxy.port}{name}"
    far = migrated.model_copy(update={"database_url": url})
    engine = make_engine(far, pool_size=2, ping_after_s=1.0)
    yield make_session_factory(engine)
    engine.dispose()
