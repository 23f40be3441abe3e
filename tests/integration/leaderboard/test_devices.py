"""The device rule: accuracies of all devices, throughputs of one device model at a time."""

from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.analysis.effects import estimate_main_effects
from services.analysis.result_table import ResultSelection
from services.leaderboard.filters import Filters, parse_filters
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import complete_claim
from services.sweeps.control import cancel_sweep, extend_sweep
from services.sweeps.device_choice import choose_device
from shared.domain.errors import InvalidInputError, SweepNotFoundError
from shared.domain.results.choices import Target
from tests.integration.scenario import (
    add_sweep,
    claimed,
    environment,
    rejection,
    success,
    successes,
    trial,
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
    return {row.device: row.jobs for row in rows if row.jobs}


def retime(session: Session, sweep_id: int) -> dict[str, int]:
    """Counts the timed jobs by device model from the timings themselves."""
    rows = session.execute(
        text("SELECT e.device, count(DISTINCT t.job_id) AS jobs FROM timings t "
             "JOIN environments e ON e.id = t.environment_id JOIN jobs j ON j.id = t.job_id "
             "WHERE j.sweep_id = :id GROUP BY 1"),
        {"id": sweep_id},
    )  # fmt: skip
    return {row.device: row.jobs for row in rows}


def test_the_device_that_timed_most_jobs_is_shown(session: Session) -> None:
    sweep_id = add_sweep(session, groups=4)
    measure(session, sweep_id, 0, "H100")
    measure(session, sweep_id, 1, "A100", rejected=1)
    choice = choose_device(session, sweep_id)
    assert choice.device == "A100"  # of equally many, the first by name
    assert choice.timed == {"A100": 4, "H100": 4}
    assert list(choice.measured.items()) == [("H100", 4), ("A100", 3)]
    measure(session, sweep_id, 2, "H100")
    choice = choose_device(session, sweep_id)
    assert choice.device == "H100"
    assert list(choice.timed.items()) == [("H100", 8), ("A100", 4)]


def test_another_device_is_shown_when_asked_for(session: Session) -> None:
    sweep_id = add_sweep(session, groups=3)
    for group, device in enumerate(("A", "B", "C")):
        measure(session, sweep_id, group, device)
    choice = choose_device(session, sweep_id, "B")
    assert choice.device == "B"
    assert choice.timed == choice.measured == {"A": 4, "B": 4, "C": 4}


def test_accuracy_ranks_all_devices_and_throughput_one(session: Session) -> None:
    sweep_id = add_sweep(session, groups=3)
    for group, device in enumerate(("A", "B", "A")):
        measure(session, sweep_id, group, device)
    by_accuracy = rank_jobs(session, sweep_id, sort="-accuracy")
    assert Counter(row.device for row in by_accuracy.rows) == {"A": 8, "B": 4}
    for row in by_accuracy.rows:
        timed = (row.throughput, row.throughput_max, row.throughput_measured, row.fitness)
        assert all(value is None for value in timed) == (row.device == "B")
        assert row.throughput_device == ("A" if row.device == "A" else None)
    fast = rank_jobs(session, sweep_id, parse_filters([("throughput", "0..")]))
    assert {row.device for row in fast.rows} == {"A"}
    for sort in ("-throughput", "throughput", "-fitness", "fitness"):
        devices = [row.device for row in rank_jobs(session, sweep_id, sort=sort).rows]
        assert devices == ["A"] * 8 + ["B"] * 4  # rows without a value come last
    others = rank_jobs(session, sweep_id, parse_filters([("device", "B")]), sort="-throughput")
    assert [row.throughput_device for row in others.rows] == ["B"] * 4 + [None] * 8


def test_effects_of_accuracy_use_all_devices_and_those_of_throughput_one(session: Session) -> None:
    sweep_id = add_sweep(session, groups=3)
    for group, device in enumerate(("A", "B", "A")):
        measure(session, sweep_id, group, device)
    selection = ResultSelection(Filters())
    accuracy = estimate_main_effects(session, sweep_id, selection, Target.ACCURACY).coverage
    assert (accuracy.used, accuracy.device, accuracy.missing) == (12, ("A", "B"), {})
    speed = estimate_main_effects(session, sweep_id, selection, Target.THROUGHPUT).coverage
    assert (speed.used, speed.device, speed.missing) == (8, ("A",), {"left_out": 4})


def test_fitness_is_normalized_by_accuracies_of_all_devices(session: Session) -> None:
    sweep_id = add_sweep(session, groups=2)
    for group, (device, accuracies) in enumerate(
        [("A", (0.2, 0.3, 0.3, 0.4)), ("B", (0.1, 0.3, 0.3, 0.6))]
    ):
        held = claimed(session, sweep_id, group)
        outcomes = [
            success([trial(n, accuracy, 100 + 10 * place) for n in job.trials])
            for place, (job, accuracy) in enumerate(zip(held.jobs, accuracies, strict=True))
        ]
        complete_claim(session, held, outcomes, environment(device))
        session.commit()
    best = rank_jobs(session, sweep_id, sort="-fitness").rows[0]
    assert best.fitness == pytest.approx((0.4 - 0.1) / 0.5 + 0.3 * 1)


def test_one_model_measured_under_two_versions_is_one_device(session: Session) -> None:
    sweep_id = add_sweep(session)
    measure(session, sweep_id, 0, "A")
    held = claimed(session, sweep_id, 1)
    newer = replace(environment("A"), code_version="2")
    complete_claim(session, held, successes(held), newer)
    session.commit()
    choice = choose_device(session, sweep_id)
    assert choice.timed == choice.measured == {"A": 8}


def test_before_any_result_no_device_is_shown(session: Session) -> None:
    choice = choose_device(session, add_sweep(session))
    assert (choice.device, choice.timed, choice.measured) == (None, {}, {})


def test_a_device_that_timed_nothing_is_refused_with_those_that_did(session: Session) -> None:
    sweep_id = add_sweep(session)
    measure(session, sweep_id, 0, "A100")
    with pytest.raises(InvalidInputError, match="'H200'; there are: 'A100'") as refusal:
        choose_device(session, sweep_id, "H200")
    assert refusal.value.field == "device"
    with pytest.raises(SweepNotFoundError):
        choose_device(session, sweep_id + 1)


def test_counts_by_device_follow_the_jobs_through_any_change(session: Session) -> None:
    sweep_id = add_sweep(session, groups=4)
    other = add_sweep(session)
    measure(session, sweep_id, 0, "A", rejected=1)
    measure(session, sweep_id, 1, "B")
    measure(session, other, 0, "A")
    assert choose_device(session, sweep_id).measured == recount(session, sweep_id)
    extend_sweep(session, sweep_id, trials=3, top=5)
    session.commit()
    assert choose_device(session, sweep_id).measured == recount(session, sweep_id)
    measure(session, sweep_id, 0, "B")  # the extended jobs of a group move to another device
    assert choose_device(session, sweep_id).measured == recount(session, sweep_id)
    cancel_sweep(session, sweep_id)
    session.commit()
    assert choose_device(session, sweep_id).measured == recount(session, sweep_id)
    assert choose_device(session, sweep_id).timed == retime(session, sweep_id)
    assert choose_device(session, other).measured == {"A": 4}
    assert choose_device(session, other).timed == {"A": 4}
