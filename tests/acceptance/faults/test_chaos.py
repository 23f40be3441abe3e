"""Everything at once: a sweep under random faults of every kind."""

from pathlib import Path

import pytest

from bench import chaos
from tests.acceptance.faults.invariants import TOLERANCE
from tests.acceptance.faults.site import measured


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_random_faults_of_every_kind_lose_and_double_nothing(server_dir: Path) -> None:
    folder = server_dir / "chaos"
    folder.mkdir()
    figures = chaos.run(folder, minutes=0.5, seed=1, gap_s=3)
    share = figures["rate_share"]
    measured(f"a sweep at {share} of its rate, a fault every 3 s", figures["disturbed_s"])
    assert figures["faults"] >= 4
    assert figures["lost"] == figures["duplicates"] == 0
    assert figures["broken"] == []
    assert figures["differing_images"] <= TOLERANCE
