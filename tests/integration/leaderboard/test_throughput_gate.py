"""A gate on throughput counts when results are read, on the device model that is shown."""

import pytest
from sqlalchemy.orm import Session

from services.analysis.effects import estimate_main_effects
from services.analysis.points import load_points
from services.analysis.result_table import ResultSelection
from services.leaderboard.filters import Filters, parse_filters
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import complete_claim
from services.live.changes import observe
from services.sweeps.control import extend_sweep
from services.sweeps.creation import create_sweep
from shared.domain.protocol import Gates, Timing
from shared.domain.results.choices import Target
from tests.integration.scenario import (
    claimed,
    environment,
    small_protocol,
    small_space,
    statuses,
    success,
    trial,
)

RATES = (50.0, 200.0, 400.0, 100.0)  # images/s of the networks of a group
ACCURACIES = (0.9, 0.3, 0.5, 0.8)


def add_gated(session: Session, timing: Timing | None = None) -> int:
    """Adds a sweep with a gate of 200 images/s: group 0 on A, a slow half, group 1 on B."""
    changes = {"gates": Gates(min_throughput=200), "timing": timing or Timing()}
    sweep = create_sweep(session, small_space(2), small_protocol().model_copy(update=changes))
    session.commit()
    for group, device in enumerate("AB"):
        held = claimed(session, sweep.id, group)
        outcomes = [
            success([trial(n, accuracy, rate) for n in job.trials])
            for job, accuracy, rate in zip(held.jobs, ACCURACIES, RATES, strict=True)
        ]
        complete_claim(session, held, outcomes, environment(device))
        session.commit()
    return sweep.id


def accuracies(session: Session, sweep_id: int, *filters: tuple[str, str]) -> list[float | None]:
    return [row.accuracy for row in rank_jobs(session, sweep_id, parse_filters(filters)).rows]


def test_slow_networks_complete_and_are_hidden_on_the_model_shown(session: Session) -> None:
    sweep_id = add_gated(session)
    assert set(statuses(session, sweep_id).values()) == {"completed"}
    page = rank_jobs(session, sweep_id)
    assert (page.choice.device, page.choice.min_throughput) == ("A", 200)
    # of A the fast half, of B all, since A has not timed them
    assert [row.accuracy for row in page.rows] == [0.9, 0.8, 0.5, 0.5, 0.3, 0.3]
    assert {row.device for row in page.rows if row.throughput is None} == {"B"}
    on_b = rank_jobs(session, sweep_id, parse_filters([("device", "B")])).rows
    assert {row.device for row in on_b if row.throughput is None} == {"A"}
    assert len(on_b) == 6


@pytest.mark.parametrize("named", [("status", "completed"), ("throughput", "0..|..0")])
def test_a_filter_on_status_or_throughput_shows_slow_networks(
    named: tuple[str, str], session: Session
) -> None:
    sweep_id = add_gated(session)
    expected = 8 if named[0] == "status" else 4
    assert len(accuracies(session, sweep_id, named)) == expected


def test_points_effects_leaders_and_extensions_leave_slow_networks_out(session: Session) -> None:
    sweep_id = add_gated(session)
    selection = ResultSelection(Filters())
    points = load_points(session, sweep_id, selection, ["accuracy"])
    assert (len(points.job_ids), points.min_throughput) == (6, 200)
    coverage = estimate_main_effects(session, sweep_id, selection, Target.ACCURACY).coverage
    assert (coverage.used, coverage.missing, coverage.min_throughput) == (6, {"left_out": 2}, 200)
    leaders = observe(session, sweep_id).best
    assert [row.accuracy for row in leaders] == [0.9, 0.8, 0.5, 0.5, 0.3, 0.3]
    assert {row.device for row in leaders[:2]} == {"B"}
    assert extend_sweep(session, sweep_id, trials=3, top=2) == 2
    extended = [job for job, status in statuses(session, sweep_id).items() if status == "pending"]
    assert sorted(extended) == sorted(row.id for row in leaders[:2])


def test_fitness_is_normalized_over_networks_that_pass_the_gate(session: Session) -> None:
    sweep_id = add_gated(session)
    fastest = rank_jobs(session, sweep_id, sort="-throughput").rows[0]
    assert fastest.throughput == 400
    # accuracies from 0.3 to 0.9 (on B), throughputs from 200 to 400
    assert fastest.fitness == pytest.approx((0.5 - 0.3) / 0.6 + 0.3)


def test_where_the_protocol_names_a_model_workers_reject_and_nothing_is_hidden(
    session: Session,
) -> None:
    sweep_id = add_gated(session, Timing(device_model="B"))
    page = rank_jobs(session, sweep_id)
    assert (page.choice.device, page.choice.min_throughput) == ("B", None)
    assert len(page.rows) == 8
