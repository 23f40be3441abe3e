"""Throughputs across devices, on simulated GPUs whose true speeds are known.

``python -m bench.calibration --json``
"""

import argparse
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from services.analysis.statistics.calibration import fit_across_models, speed_change, unit_factors
from services.analysis.statistics.correlation import correlate
from shared.domain.architecture import layer_bytes, layer_cost, output_size
from shared.domain.arrays import FloatArray, IntArray
from shared.domain.reference_set import EVERY_TIMINGS, MAX_DRIFT, NETWORKS
from shared.domain.results.choices import CorrelationMethod
from shared.domain.space import SpaceTable, random_cnn_2025

INPUT_SHAPE = (3, 96, 96)
BATCH_SIZE = 32
NOISE = 0.01  # of one timing, log-normal
UNIT_SPREAD = 0.03  # between units of a model, log-normal
BRIDGE = 0.03  # of all networks
REFERENCE_RUNS = 7
TIMINGS = 10_000
SLOWDOWN = 0.08


@dataclass(frozen=True)
class Model:
    """A roofline: a layer takes a launch and the longer of computing and moving its bytes."""

    units: int
    flops_per_s: float
    bytes_per_s: float
    cache_bytes: float  # a layer whose batch fits is moved at the cache's rate
    cache_bytes_per_s: float
    launch_s: float


SOURCE = Model(3, 12e12, 1.4e12, 40e6, 4e12, 4e-6)
TARGET = Model(2, 25e12, 0.45e12, 6e6, 2e12, 9e-6)


class Networks(NamedTuple):
    """Layers (depth, n) of the networks: the option each is, and its costs for a batch."""

    options: IntArray
    flops: FloatArray
    bytes_moved: FloatArray

    def costs(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns FLOPs and bytes per image and launches of every network."""
        depth, count = self.flops.shape
        flops, moved = (each.sum(axis=0) / BATCH_SIZE for each in (self.flops, self.bytes_moved))
        return flops, moved, np.full(count, float(depth))


class Fleet(NamedTuple):
    """Units of one model: their true speeds relative to their median, and those estimated."""

    speeds: FloatArray  # images/s of a unit with factor 1
    factors: FloatArray
    estimated: FloatArray

    def timings(self, random: np.random.Generator) -> FloatArray:
        """Returns a timing of every network on some unit, corrected by the unit's factor."""
        unit = random.integers(0, len(self.factors), len(self.speeds))
        return noisy(self.speeds * self.factors[unit], random) / self.estimated[unit]

    @property
    def factor_error(self) -> float:
        return float(np.abs(self.estimated - self.factors).max())


def main() -> None:
    """Prints how well drift, units and another model are known, and which goals hold."""
    arguments = _parser().parse_args()
    figures = measure(arguments.seeds, arguments.drifts)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value}")


def measure(seeds: int, drifts: int) -> dict[str, Any]:
    """Returns all figures, and the goals with their values."""
    networks = published_networks()
    roofline = across_models(networks, seeds)
    drift = find_drift(networks, drifts)
    goals = {
        "rank_correlation_smallest": roofline["rank_correlation_smallest"] >= 0.98,
        "coverage": 0.88 <= roofline["coverage"] <= 0.92,
        "slowdowns_found": drift["found"] == drift["slowdowns"],
        "false_alarms": drift["false_alarms"] == 0,
    }
    return {
        "networks": networks.flops.shape[1],
        "roofline": roofline,
        "roofline_and_quirks": across_models(networks, seeds, quirks=0.2),
        "drift": drift,
        "holds": goals,
    }


def published_networks() -> Networks:
    """Returns the valid networks of the published space."""
    space = random_cnn_2025()
    tables = [_layers(table) for table in space.tables(INPUT_SHAPE)]
    return Networks(*(np.concatenate(columns, axis=1) for columns in zip(*tables, strict=True)))


def _layers(table: SpaceTable) -> Networks:
    valid = table.fits & (table.ratio <= 1)
    before, height, width = (np.full(len(valid), side) for side in INPUT_SHAPE)
    flops, moved = [], []
    for layer, choice in zip(table.layers, table.choices, strict=True):
        channels, *geometry = layer.numbers[:, choice]
        elements = before * height * width
        height, width = output_size(height, *geometry), output_size(width, *geometry)
        parameters, cost = layer_cost(before, channels, geometry[0], height * width)
        flops.append(cost * BATCH_SIZE)
        moved.append(layer_bytes(elements, channels * height * width, parameters, BATCH_SIZE))
        before = channels
    return Networks(
        np.stack(table.choices)[:, valid],
        np.stack(flops)[:, valid].astype(float),
        np.stack(moved)[:, valid].astype(float),
    )


def throughputs(model: Model, networks: Networks, efficiency: FloatArray) -> FloatArray:
    """Returns true images/s; ``efficiency`` multiplies the computing speed of layers (depth, n)."""
    cached = networks.bytes_moved <= model.cache_bytes
    bandwidth = np.where(cached, model.cache_bytes_per_s, model.bytes_per_s)
    computing = networks.flops / (model.flops_per_s * efficiency)
    seconds = model.launch_s + np.maximum(computing, networks.bytes_moved / bandwidth)
    found: FloatArray = BATCH_SIZE / seconds.sum(axis=0)
    return found


def noisy(values: FloatArray, random: np.random.Generator) -> FloatArray:
    """Returns timings of what has these throughputs."""
    return values * np.exp(random.normal(0, NOISE, values.shape))


def fleet(model: Model, networks: Networks, quirks: float, random: np.random.Generator) -> Fleet:
    """Returns units of a model after each of them ran the references.

    ``quirks`` is the spread of the computing speed between layer options, which libraries serve
    with different algorithms.
    """
    options = np.exp(random.normal(0, quirks, (len(networks.options), networks.options.max() + 1)))
    efficiency = np.take_along_axis(options, networks.options, axis=1)
    speeds = throughputs(model, networks, efficiency)
    factors = np.exp(random.normal(0, UNIT_SPREAD, model.units))
    factors /= np.median(factors)
    references = speeds[random.choice(len(speeds), len(NETWORKS), replace=False)]
    runs = {
        str(unit): noisy(np.tile(references * factor, (REFERENCE_RUNS, 1)), random)
        for unit, factor in enumerate(factors)
    }
    return Fleet(speeds, factors, np.array(list(unit_factors(runs).values())))


def across_models(networks: Networks, seeds: int, quirks: float = 0.0) -> dict[str, float]:
    """Returns how well a bridge predicts the rest on the target, over ``seeds`` simulations."""
    found = [_across_models(networks, quirks, seed) for seed in range(seeds)]
    mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    smallest = min(one["rank_correlation"] for one in found)
    largest = max(one["factor_error"] for one in found)
    figures = mean | {"rank_correlation_smallest": smallest, "factor_error_largest": largest}
    return {name: round(value, 4) for name, value in figures.items()}


def _across_models(networks: Networks, quirks: float, seed: int) -> dict[str, float]:
    random = np.random.default_rng(seed)
    source, target = (fleet(model, networks, quirks, random) for model in (SOURCE, TARGET))
    order = random.permutation(len(source.speeds))
    size = round(BRIDGE * len(order))
    bridge, rest = order[:size], order[size:]
    sources, targets = source.timings(random), target.timings(random)
    costs = networks.costs()
    fit = fit_across_models(
        sources[bridge], targets[bridge], *(cost[bridge] for cost in costs), seed=seed
    )
    middle, low, high = fit.predict(sources[rest], *(cost[rest] for cost in costs))
    inside = (low <= targets[rest]) & (targets[rest] <= high)
    return {
        "bridge": float(size),
        "rank_correlation": _spearman(middle, target.speeds[rest]),
        "rank_correlation_of_sources": _spearman(sources[rest], target.speeds[rest]),
        "rank_correlation_held_back": fit.rank_correlation or math.nan,
        "coverage": float(inside.mean()),
        "relative_half_width": float(np.median((high - low) / (2 * middle))),
        "factor_error": max(source.factor_error, target.factor_error),
    }


def _spearman(first: FloatArray, second: FloatArray) -> float:
    both = np.stack([first, second])
    return float(correlate(both, CorrelationMethod.SPEARMAN).coefficients[0, 1])


def find_drift(networks: Networks, drifts: int) -> dict[str, Any]:
    """Returns how many slowdowns were found and when, and how many false alarms there were.

    Each of ``drifts`` units runs once with a slowdown and once without.
    """
    random = np.random.default_rng(0)
    speeds = throughputs(SOURCE, networks, np.ones_like(networks.flops))
    delays: list[int] = []
    false_alarms, largest = 0, 0.0
    for _ in range(drifts):
        references = speeds[random.choice(len(speeds), len(NETWORKS), replace=False)]
        steady = _changes(references, TIMINGS, random)  # never slows down
        false_alarms += int((steady > MAX_DRIFT).sum())
        largest = max(largest, float(steady.max()))
        start = int(random.integers(0, TIMINGS - EVERY_TIMINGS))
        alarms = np.flatnonzero(_changes(references, start, random) > MAX_DRIFT)
        delays += [(int(first) + 1) * EVERY_TIMINGS - start for first in alarms[:1]]
    return {
        "slowdowns": drifts,
        "found": sum(0 <= delay <= EVERY_TIMINGS for delay in delays),
        "timings_until_found_mean": round(sum(delays) / max(len(delays), 1), 1),
        "timings_until_found_most": max(delays, default=None),
        "timings_without_slowdown": drifts * TIMINGS,
        "false_alarms": false_alarms,
        "largest_change_without_slowdown": round(largest, 4),
    }


def _changes(references: FloatArray, start: int, random: np.random.Generator) -> FloatArray:
    """Returns the sizes of the changes seen by a unit that is slower from timing ``start`` on."""
    before = noisy(references, random)
    checks = range(EVERY_TIMINGS, TIMINGS + 1, EVERY_TIMINGS)
    speeds = [references * (1 - SLOWDOWN * (timing > start)) for timing in checks]
    return np.array([abs(speed_change(before, noisy(speed, random))) for speed in speeds])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.calibration", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="simulated pairs of fleets")
    parser.add_argument("--drifts", type=int, default=200, help="slowdowns of a unit")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    main()
