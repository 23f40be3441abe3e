"""What the frequency domain is taken to cost on a CPU, against the time of whole groups.

``python -m bench.spectral --dataset NAME --data-dir DIR --groups 6 --json``
"""

import argparse
import json
import math
import random
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.workload import Group, sample_groups, seconds
from shared.domain.protocol import Gates, Protocol
from worker.engine.cpu.tuning import SPECTRAL_SLOWDOWN, CpuTuning
from worker.engine.data.datasets import Dataset, load_dataset
from worker.engine.evaluate import evaluate_group

COSTS = (1.0, 1.5, 2.0, 2.75, 3.5, 5.0, math.inf)  # with the last one everything is direct


def main() -> None:
    """Prints seconds per architecture for each cost; all costs take turns, group by group."""
    arguments = _parser().parse_args()
    figures = compare_costs(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


def compare_costs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the best of ``--runs`` runs per group and cost, summed over the groups."""
    protocol = Protocol(dataset=arguments.dataset, timing=None, gates=Gates())
    dataset = load_dataset(arguments.data_dir, protocol)
    groups = sample_groups(arguments.groups)
    _evaluate(groups[0], dataset, protocol, SPECTRAL_SLOWDOWN)
    best = {cost: [math.inf] * len(groups) for cost in COSTS}
    for _ in range(arguments.runs):
        for number, group in enumerate(groups):
            for cost in random.sample(COSTS, len(COSTS)):
                took = seconds(partial(_evaluate, group, dataset, protocol, cost))
                best[cost][number] = min(best[cost][number], took)
    architectures = sum(map(len, groups))
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "architectures": architectures,
        "cost_in_use": SPECTRAL_SLOWDOWN,
        "engine_s_per_architecture": {
            str(cost): round(sum(times) / architectures, 4) for cost, times in best.items()
        },
    }


def _evaluate(group: Group, dataset: Dataset, protocol: Protocol, cost: float) -> None:
    evaluate_group(
        group, [range(1)] * len(group), dataset, protocol, torch.device("cpu"),
        tuning=CpuTuning(torch.get_num_threads(), cost),
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.spectral", description=__doc__)
    parser.add_argument("--dataset", default="digits", help="digits needs no file")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument(
        "--groups", type=int, default=6, help="random groups of the published space"
    )
    parser.add_argument("--runs", type=int, default=2, help="runs per group and cost")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    main()
