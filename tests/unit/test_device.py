"""The device of a worker: its name to the driver."""

import pytest

from worker.device import driver_uuid

UUID = "8f3b2c1a-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", f"GPU-{UUID}"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", f"MIG-{UUID}"),
    ],
)
def test_a_part_of_a_gpu_has_the_name_that_its_driver_expects(name: str, expected: str) -> None:
    assert driver_uuid(name, UUID) == expected
