"""The device rule: results of one device model at a time, unless a request names more."""

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leaderboard.device_choice import choose_devices
from services.leasing.group_leases import complete_claim
from services.sweeps.control import cancel_sweep, extend_sweep
from shared.domain.errors import InvalidInputError, SweepNotFoundError
from tests.integration.scenario import (
    add_sweep,
    claimed,
    environment,
    rejection,
    successes,
)


def measure(session: Session, sweep_id: int, group: int, device: str, rejected: int = 0) -> None:
    """Completes a group on a device, its first jobs rejected."""
    held = claimed(session, sweep_id, group)
    outcomes = [rejection() for _ in range(rejected)] + successes(held)[rejected:]
    complete_claim(session, held, outcomes, environment(device))
    session.commit()


def recount(session: Session, sweep_id: int) -> dict[str, int]:
    rows = session.execute(
        text("SELECT e.device, "
             "count(*) FILTER (WHERE j.status <> 'rejected' AND j.trials_done > 0) AS jobs "
             "FROM jobs j JOIN environments e ON e.id = j.environment_id "
             "WHERE j.sweep_id = :id GROUP BY 1"),
        {"id": sweep_id},
    )  # fmt: skip
    return {row.device: row.jobs for row in rows}


def test_the_device_with_the_most_ranked_jobs_is_shown(session: Session) -> None:
    sweep_id = add_sweep(session, groups=4)
    measure(session, sweep_id, 0, "H100", rejected=3)
    measure(session, sweep_id, 1, "A100")
    choice = choose_devices(session, sweep_id)
    assert choice.device == ("A100",)
    assert choice.devices == {"A100": 4, "H100": 1}
    measure(session, sweep_id, 2, "H100")
    choice = choose_devices(session, sweep_id)
    assert choice.device == ("H100",)
    assert list(choice.devices.items()) == [("H100", 5), ("A100", 4)]


def test_other_devices_are_shown_and_mixed_when_asked_for(session: Session) -> None:
    sweep_id = add_sweep(session, groups=3)
    for group, device in enumerate(("A", "B", "C")):
        measure(session, sweep_id, group, device)
    assert choose_devices(session, sweep_id, ["B"]).device == ("B",)
    assert choose_devices(session, sweep_id, ["C", "A"]).device == ("A", "C")
    mixed = choose_devices(session, sweep_id, ["any"])
    assert mixed.device == ("A", "B", "C")
    assert len(mixed.environment_ids) == 3


def test_one_model_measured_under_two_versions_is_one_device(session: Session) -> None:
    sweep_id = add_sweep(session)
    measure(session, sweep_id, 0, "A")
    held = claimed(session, sweep_id, 1)
    newer = replace(environment("A"), code_version="2")
    complete_claim(session, held, successes(held), newer)
    session.commit()
    choice = choose_devices(session, sweep_id)
    assert choice.devices == {"A": 8}
    assert len(choice.environment_ids) == 2


def test_before_any_result_no_device_is_shown(session: Session) -> None:
    choice = choose_devices(session, add_sweep(session))
    assert (choice.device, choice.devices, choice.environment_ids) == ((), {}, ())


def test_a_device_that_measured_nothing_is_refused_with_those_that_did(session: Session) -> None:
    sweep_id = add_sweep(session)
    measure(session, sweep_id, 0, "A100")
    with pytest.raises(InvalidInputError, match="'H200'; there are: 'A100'") as refusal:
        choose_devices(session, sweep_id, ["H200"])
    assert refusal.value.field == "device"
    with pytest.raises(SweepNotFoundError):
        choose_devices(session, sweep_id + 1)


def test_counts_by_device_follow_the_jobs_through_any_change(session: Session) -> None:
    sweep_id = add_sweep(session, groups=4)
    other = add_sweep(session)
    measure(session, sweep_id, 0, "A", rejected=1)
    measure(session, sweep_id, 1, "B")
    measure(session, other, 0, "A")
    assert choose_devices(session, sweep_id).devices == recount(session, sweep_id)
    extend_sweep(session, sweep_id, trials=3, top=5)
    session.commit()
    assert choose_devices(session, sweep_id).devices == recount(session, sweep_id)
    measure(session, sweep_id, 0, "B")  # the extended jobs of a group move to another device
    assert choose_devices(session, sweep_id).devices == recount(session, sweep_id)
    cancel_sweep(session, sweep_id)
    session.commit()
    assert choose_devices(session, sweep_id).devices == recount(session, sweep_id)
    assert choose_devices(session, other).devices == {"A": 4}
