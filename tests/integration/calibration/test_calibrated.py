"""Calibrated throughputs: corrected, predicted, shown in every view, and what is refused."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy.orm import Session

from services.analysis.correlations import find_pareto_front
from services.analysis.points import load_points
from services.analysis.result_table import ResultSelection
from services.calibration.bridges import build_bridge
from services.calibration.calibrated import Calibration, calibrate
from services.calibration.devices import MAX_RUNS, compare_devices
from services.leaderboard.filters import Filters, parse_filters
from services.leaderboard.leaders import get_job_detail, rank_jobs
from services.leasing.group_leases import awaited_models
from services.sweeps.device_choice import choose_device
from shared.domain.architecture import Architecture
from shared.domain.calibration import calibrated_scale
from shared.domain.errors import InvalidInputError
from shared.domain.reference_set import NETWORKS, VERSION
from tests.integration.calibration.fleet import GPU, STEADY, Worker, add_timed_sweep, timed
from tests.integration.scenario import GROUP_SIZE

GROUPS = 60
ALL = GROUPS * GROUP_SIZE
OTHER = "L4"
SHAPE = (1, 32, 32)


def on_gpu(network: Architecture) -> float:
    """Images/s of a model whose layers start slowly and compute fast."""
    return 1 / (2e-5 + network.measures(SHAPE).flops / 4e9)


def on_other(network: Architecture) -> float:
    """Images/s of a model that moves bytes slowly."""
    return 1 / (1e-5 + network.measures(SHAPE).flops / 1e9 + network.bytes_moved(SHAPE, 32) / 1e9)


@pytest.fixture
def sweep_id(session: Session) -> int:
    return add_timed_sweep(session, GROUPS)


def bridged(session: Session, sweep_id: int, share: float) -> None:
    """Lets an H100 time all networks, and an L4 a share of them."""
    first, second = Worker(session, "GPU-1", GPU), Worker(session, "GPU-2", OTHER)
    for group in range(GROUPS):
        first.evaluate(sweep_id, group, on_gpu)
    build_bridge(session, sweep_id, [OTHER], share=share)
    session.commit()
    for group in range(GROUPS):
        if awaited_models(session, sweep_id, group):
            second.evaluate(sweep_id, group, on_other)


def calibrated(session: Session, sweep_id: int, device: str = OTHER) -> Calibration:
    found = calibrate(session, sweep_id, device)
    session.commit()
    return found


def shown(session: Session, sweep_id: int, scale: str) -> Filters:
    return parse_filters([("device", scale)])


def test_networks_that_a_model_did_not_time_are_predicted_with_intervals_that_hold(
    session: Session, sweep_id: int
) -> None:
    bridged(session, sweep_id, 0.5)
    found = calibrated(session, sweep_id)
    assert found.scale == "L4 (calibrated)"
    assert found.measured + found.predicted == ALL
    assert 0 < found.predicted < ALL
    (source,) = found.sources
    assert (source.source, source.rows, source.predicted) == (GPU, found.measured, found.predicted)
    assert source.rank_correlation is not None
    assert source.rank_correlation > 0.98
    rows = rank_jobs(session, sweep_id, shown(session, sweep_id, found.scale), page_size=ALL).rows
    predicted = [row for row in rows if row.throughput_kind == "predicted"]
    measured = [row for row in rows if row.throughput_kind == "measured"]
    assert (len(predicted), len(measured)) == (found.predicted, found.measured)
    within = []
    for row in predicted:
        assert row.throughput is not None
        assert row.throughput_min is not None
        assert row.throughput_max is not None
        assert row.throughput_min < row.throughput < row.throughput_max
        within.append(row.throughput_min <= on_other(row.architecture) <= row.throughput_max)
    assert np.mean(within) > 0.75
    for row in measured:
        assert row.throughput == pytest.approx(on_other(row.architecture))


def test_every_view_shows_calibrated_throughputs_under_the_name_of_their_scale(
    session: Session, sweep_id: int
) -> None:
    bridged(session, sweep_id, 0.5)
    scale = calibrated(session, sweep_id).scale
    board = rank_jobs(session, sweep_id, sort="-throughput", page_size=ALL)
    assert board.choice.device == GPU  # no view shows a prediction unasked
    assert board.choice.timed[scale] == ALL
    assert timed(session, sweep_id)[scale] == ALL
    assert list(board.choice.timed)[-1] == scale  # behind what was measured
    filters = shown(session, sweep_id, scale)
    ranked = rank_jobs(session, sweep_id, filters, sort="-throughput", page_size=ALL).rows
    speeds = [row.throughput for row in ranked]
    assert None not in speeds
    assert speeds == sorted(speeds, key=lambda speed: -(speed or 0))
    assert {row.throughput_device for row in ranked} == {scale}
    front = find_pareto_front(session, sweep_id, ResultSelection(filters))
    assert front.front[0].id == ranked[0].id
    assert front.coverage.throughput_device == scale
    points = load_points(session, sweep_id, ResultSelection(filters), ["throughput"])
    assert points.throughput_device == scale
    only = parse_filters([("device", scale), ("throughput_kind", "predicted")])
    kinds = {row.throughput_kind for row in rank_jobs(session, sweep_id, only, page_size=ALL).rows}
    assert kinds == {"predicted"}
    detail = get_job_detail(session, ranked[0].id)
    assert scale in {row.device for row in detail.throughputs}


def test_calibrating_again_replaces_what_was_there(session: Session, sweep_id: int) -> None:
    bridged(session, sweep_id, 0.4)
    before = calibrated(session, sweep_id)
    build_bridge(session, sweep_id, [OTHER], share=0.6)
    session.commit()
    worker = Worker(session, "GPU-2", OTHER)
    for group in range(GROUPS):
        if awaited_models(session, sweep_id, group):
            worker.evaluate(sweep_id, group, on_other)
    stale = compare_devices(session, sweep_id).models[1].calibration
    assert stale is not None
    assert stale.timed_since == timed(session, sweep_id)[OTHER] - before.measured > 0
    after = calibrated(session, sweep_id)
    assert after.timed_since == 0
    assert after.measured > before.measured
    assert after.measured + after.predicted == ALL
    assert timed(session, sweep_id)[after.scale] == ALL


def test_timings_are_corrected_for_the_speeds_of_units_and_stay_as_they_were_measured(
    session: Session, sweep_id: int
) -> None:
    workers = [Worker(session, f"GPU-{n}", GPU) for n in range(3)]
    speeds = (0.9, 1.0, 1.1)
    for worker, speed in zip(workers, speeds, strict=True):
        worker.run_references([speed * one for one in STEADY])
    for group in range(GROUPS):
        speed = speeds[group % 3]
        workers[group % 3].evaluate(sweep_id, group, _times(speed))
    found = calibrated(session, sweep_id, GPU)
    assert (found.measured, found.predicted, found.sources) == (ALL, 0, ())
    corrected = rank_jobs(
        session, sweep_id, shown(session, sweep_id, found.scale), page_size=ALL
    ).rows
    for row in corrected:
        assert row.throughput == pytest.approx(on_gpu(row.architecture))
    raw = rank_jobs(session, sweep_id, page_size=ALL).rows
    ratios = {round((row.throughput or 0) / on_gpu(row.architecture), 6) for row in raw}
    assert ratios == set(speeds)


def _times(factor: float) -> Callable[[Architecture], float]:
    return lambda network: factor * on_gpu(network)


def test_too_few_networks_on_both_models_give_no_prediction_but_say_how_many_more(
    session: Session, sweep_id: int
) -> None:
    bridged(session, sweep_id, 0.1)
    found = calibrated(session, sweep_id)
    assert found.predicted == 0
    (source,) = found.sources
    assert source.problem is not None
    assert f"{40 - source.rows} more needed" in source.problem
    assert source.interval_factor is None
    assert timed(session, sweep_id)[found.scale] == found.measured


def test_what_cannot_be_calibrated_says_why(session: Session, sweep_id: int) -> None:
    with pytest.raises(InvalidInputError, match="timed on 'H100'; there are: none yet"):
        calibrate(session, sweep_id, GPU)
    Worker(session).evaluate(sweep_id)
    with pytest.raises(InvalidInputError, match="timed on 'A100'; there are: 'H100'"):
        calibrate(session, sweep_id, "A100")
    calibrate(session, sweep_id, GPU)
    with pytest.raises(InvalidInputError, match="there are: 'H100'"):
        calibrate(session, sweep_id, calibrated_scale(GPU))
    with pytest.raises(InvalidInputError, match="no version 7 of the reference networks"):
        calibrate(session, sweep_id, GPU, reference_version=7)
    assert choose_device(session, sweep_id).device == GPU


def test_devices_are_compared_by_their_references_and_by_other_models(
    session: Session, sweep_id: int
) -> None:
    bridged(session, sweep_id, 0.5)
    fast = Worker(session, "GPU-3", GPU)
    slow = Worker(session, "GPU-1", GPU)
    for change in (1.0, 1.0, 0.92):
        slow.run_references([change * one for one in STEADY])
    fast.run_references([1.1 * one for one in STEADY])
    found = compare_devices(session, sweep_id)
    assert found.reference_version == VERSION
    gpu, other = found.models
    assert (gpu.device, gpu.timed) == (GPU, ALL)
    assert [unit.unit for unit in gpu.units] == ["GPU-1", "GPU-3"]
    slower, faster = gpu.units
    assert (slower.runs, slower.drifts) == (3, 1)
    assert slower.factor == pytest.approx(1 / 1.05)
    assert faster.factor == pytest.approx(1.1 / 1.05)
    assert [run.drifted for run in slower.history] == [False, False, True]
    assert slower.history[-1].speed == pytest.approx(0.92 / 1.05)
    assert slower.history[-1].speed_change == pytest.approx(-0.08)
    assert slower.history[-1].clock_mhz == 1700
    assert other.device == OTHER
    assert other.units == ()
    (fit,) = other.fits
    assert fit.source == GPU
    assert fit.interval_factor is not None
    assert 1 < fit.interval_factor < math.inf
    with pytest.raises(InvalidInputError, match="no version"):
        compare_devices(session, sweep_id, reference_version=VERSION + 1)


def test_a_long_history_is_thinned_and_ends_with_the_last_run(
    session: Session, sweep_id: int
) -> None:
    worker = Worker(session)
    worker.evaluate(sweep_id)
    runs = MAX_RUNS + 7
    for number in range(runs):
        worker.run_references([100.0 + 0.001 * number] * len(NETWORKS))
    (unit,) = compare_devices(session, sweep_id).models[0].units
    assert unit.runs == runs
    assert len(unit.history) == MAX_RUNS
    assert unit.history[0].speed < unit.history[-1].speed
