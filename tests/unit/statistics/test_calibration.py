"""Drift, units and models of devices: against simulated devices whose truth is known."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analysis.statistics.calibration import (
    MIN_BRIDGE_ROWS,
    CrossModelFit,
    fit_across_models,
    speed_change,
    unit_factors,
)
from shared.domain.arrays import FloatArray
from shared.domain.errors import InvalidInputError, NoResultsError

speeds = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=12).map(np.array)
changes = st.floats(0.1, 10.0)


class Networks(NamedTuple):
    """Throughputs on two models, and costs; all are (n,)."""

    sources: FloatArray
    targets: FloatArray
    flops: FloatArray
    bytes_moved: FloatArray
    launches: FloatArray

    def rows(self, chosen: slice) -> "Networks":
        return Networks(*(column[chosen] for column in self))

    @property
    def known(self) -> tuple[FloatArray, ...]:
        """What is known of a network that only the first model has timed."""
        return (self.sources, *self[2:])


def simulated(count: int, seed: int = 0, launches: int | None = None) -> Networks:
    """Networks of several layers on two rooflines, each timed with 1 % noise."""
    random = np.random.default_rng(seed)
    layers = random.integers(2, 6, count) if launches is None else np.full(count, launches)
    there = np.arange(6) < layers[:, None]
    flops = there * 10 ** random.uniform(5, 9, (count, 6))
    moved = there * 10 ** random.uniform(4, 7, (count, 6))

    def speed(launch: float, rate: float, bandwidth: float) -> FloatArray:
        seconds = (there * launch + np.maximum(flops / rate, moved / bandwidth)).sum(axis=1)
        measured: FloatArray = np.exp(random.normal(0, 0.01, count)) / seconds
        return measured

    return Networks(
        speed(2e-7, 12e12, 1.4e12), speed(4e-7, 25e12, 4.5e11),
        flops.sum(axis=1), moved.sum(axis=1), layers.astype(float),
    )  # fmt: skip


def fit(networks: Networks, **options: float) -> CrossModelFit:
    return fit_across_models(*networks, **options)  # type: ignore[arg-type]


@given(speeds, changes)
def test_a_uniform_change_of_speed_is_found_exactly(before: FloatArray, change: float) -> None:
    assert speed_change(before, before * change) == pytest.approx(change - 1, abs=1e-12)


def test_a_change_counts_every_reference_alike_however_fast_it_is() -> None:
    before = np.array([10.0, 1e6])
    assert speed_change(before, before * [0.5, 2.0]) == pytest.approx(0.0)
    assert speed_change(before, before * [0.92, 0.92]) == pytest.approx(-0.08)


@pytest.mark.parametrize(
    ("before", "after"), [([1.0, 2.0], [1.0]), ([1.0], [0.0]), ([1.0], [np.nan]), ([], [])]
)
def test_what_is_no_pair_of_throughputs_is_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        speed_change(np.array(before), np.array(after))


@given(speeds, st.integers(1, 5), st.integers(1, 4))
def test_factors_of_identical_units_are_one(speed: FloatArray, units: int, runs: int) -> None:
    found = unit_factors({f"unit-{unit}": np.tile(speed, (runs, 1)) for unit in range(units)})
    assert list(found.values()) == pytest.approx([1.0] * units)


@given(speeds, st.lists(changes, min_size=1, max_size=5))
def test_corrected_throughputs_of_all_units_are_the_same(
    speed: FloatArray, factors: list[float]
) -> None:
    runs = {str(unit): speed[None] * factor for unit, factor in enumerate(factors)}
    found = unit_factors(runs)
    corrected = np.stack([runs[unit][0] / factor for unit, factor in found.items()])
    np.testing.assert_allclose(corrected, np.tile(speed * np.median(factors), (len(factors), 1)))


def test_one_disturbed_run_does_not_move_a_factor() -> None:
    steady = np.full((3, 4), 100.0)
    disturbed = steady.copy()
    disturbed[1] = 20.0
    assert unit_factors({"a": steady, "b": disturbed}) == pytest.approx({"a": 1.0, "b": 1.0})


def test_units_are_compared_on_the_same_references() -> None:
    assert unit_factors({}) == {}
    with pytest.raises(InvalidInputError, match="same networks"):
        unit_factors({"a": np.ones((2, 3)), "b": np.ones((2, 4))})
    with pytest.raises(InvalidInputError, match="runs by references"):
        unit_factors({"a": np.ones(3)})
    with pytest.raises(InvalidInputError, match="runs by references"):
        unit_factors({"a": np.ones((0, 3))})


@pytest.mark.parametrize("launches", [None, 3])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_cover_what_they_say_of_networks_that_were_not_fitted(
    coverage: float, launches: int | None
) -> None:
    inside = total = 0
    for seed in range(20):
        networks = simulated(1000, seed, launches)
        found = fit(networks.rows(slice(400)), seed=seed, coverage=coverage)
        rest = networks.rows(slice(400, None))
        _, low, high = found.predict(*rest.known)
        inside += int(((low <= rest.targets) & (rest.targets <= high)).sum())
        total += len(rest.targets)
    # binomial, on top of the limit of each fit, which 200 errors give
    spread = np.sqrt(coverage * (1 - coverage) * (1 / (20 * 200) + 1 / total))
    assert inside / total == pytest.approx(coverage, abs=3 * spread)


def test_a_larger_coverage_takes_a_wider_interval() -> None:
    networks = simulated(200)
    narrow, wide = fit(networks, coverage=0.5), fit(networks, coverage=0.95)
    assert 0 < narrow.half_width < wide.half_width
    assert wide.rows == narrow.rows == 200


def test_predictions_rank_networks_as_the_other_model_does() -> None:
    networks = simulated(400)
    found = fit(networks)
    assert found.rank_correlation is not None
    assert found.rank_correlation > 0.97
    assert fit(networks).half_width == found.half_width  # seeded
    assert fit(networks, seed=1).half_width != found.half_width


@pytest.mark.parametrize(
    ("rows", "coverage", "needed"), [(39, 0.9, 1), (3, 0.9, 37), (0, 0.9, 40), (40, 0.98, 58)]
)
def test_too_few_rows_say_how_many_more_are_needed(rows: int, coverage: float, needed: int) -> None:
    networks = simulated(rows + needed)
    with pytest.raises(NoResultsError, match=f"{needed} more needed"):
        fit(networks.rows(slice(rows)), coverage=coverage)
    assert fit(networks, coverage=coverage).half_width > 0


def test_the_fewest_rows_give_finite_predictions() -> None:
    networks = simulated(500)
    found = fit(networks.rows(slice(MIN_BRIDGE_ROWS)))
    for values in found.predict(*networks.known):
        assert np.all(np.isfinite(values) & (values > 0))


def test_constant_launches_do_not_break_the_fit() -> None:
    networks = simulated(200, launches=3)
    middle, low, high = fit(networks).predict(*networks.known)
    assert np.all((low < middle) & (middle < high))
    same = networks._replace(launches=np.full(200, 7.0))
    np.testing.assert_allclose(fit(same).predict(*same.known)[0], middle)


def test_costs_that_depend_on_each_other_do_not_break_the_fit() -> None:
    networks = simulated(200)
    networks = networks._replace(bytes_moved=networks.flops / 16)
    assert np.all(np.isfinite(fit(networks).predict(*networks.known)))


@given(st.floats(1e-3, 1e3))
def test_predictions_grow_with_the_speed_of_the_other_model(factor: float) -> None:
    networks = simulated(80)
    faster = networks._replace(targets=networks.targets * factor)
    expected = np.array(fit(networks).predict(*networks.known)) * factor
    np.testing.assert_allclose(fit(faster).predict(*networks.known), expected, rtol=1e-6)


def test_speeds_that_do_not_vary_have_no_rank_correlation() -> None:
    networks = simulated(80, launches=3)
    constant = Networks(*(np.ones(80) for _ in networks))
    found = fit(constant)
    assert found.rank_correlation is None
    assert found.half_width == pytest.approx(0.0)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 0.999])
def test_a_coverage_that_no_interval_has_is_refused(coverage: float) -> None:
    with pytest.raises(InvalidInputError, match="Coverage"):
        fit(simulated(80), coverage=coverage)
