"""An API with a training folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from convsweep import Client
from shared.settings import Settings
from tests.conftest import SessionFactory, serving
from tests.integration.trainings.site import Site


@pytest.fixture
def site(migrated: Settings, sessions: SessionFactory, tmp_path: Path) -> Iterator[Site]:
    settings = migrated.model_copy(update={"training_dir": tmp_path / "trainings"})
    with serving(settings) as url, Client(url) as client:
        yield Site(settings, sessions, client)
