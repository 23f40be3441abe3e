"""The engine against the published procedure, the whole experiment, its growth and its memory.

``python -m bench.engine --dataset NAME --data-dir DIR --groups 12 --json``
"""

import argparse
import importlib
import json
import os
import random
import resource
import statistics
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.growth import measure_growth, plot_growth
from bench.workload import (
    Group,
    noise_dataset,
    sample_groups,
    seconds,
    sgemm_flops_per_s,
    tree_flops,
    valid_group,
    widest_group,
)
from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.protocol import Gates, Precision, Protocol, Timing, Weights, WeightSharing
from shared.domain.space import random_cnn_2025
from shared.domain.status import JobStatus
from shared.settings import get_settings
from worker.device import open_device, use_device
from worker.engine.data.datasets import Dataset, load_dataset
from worker.engine.evaluate import evaluate_group

PRECISION = Precision.FLOAT32
OTHER_GROUPS = 3  # before memory is measured
REPORT_GROUPS = 50


def main() -> None:
    """Runs what the arguments name and prints its figures."""
    arguments = _parser().parse_args()
    if arguments.growth:
        figures = measure_growth()
        plot_growth(figures, arguments.growth)
    elif arguments.memory:
        figures = measure_memory(int(arguments.memory * 2**20))
    elif arguments.full:
        figures = run_experiment(arguments)
    else:
        figures = compare(arguments)
    figures["load_average"] = round(os.getloadavg()[0], 2)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns seconds per architecture of the published procedure and of the engine.

    Both do one trial: weights, features of all images, probe, accuracy; neither is timed for
    throughput. They take turns, group by group, so that a busy machine slows both. With
    ``--cpu-time`` the seconds are those the process spent computing, on any number of cores.
    """
    protocol = _protocol(arguments, timing=None, gates=Gates())
    dataset, device = _dataset(arguments, protocol), torch.device(arguments.device)
    groups = sample_groups(arguments.groups or 12)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    _evaluate(groups[0], dataset, protocol, device)
    pick = random.Random(1)
    engine: list[float] = []
    published: list[float] = []
    rates: list[float] = []
    for group in groups:
        rates.append(sgemm_flops_per_s(clock))
        run = partial(_evaluate, group, dataset, protocol, device)
        engine.append(min(seconds(run, clock) for _ in range(2)))
        members = pick.sample(group, min(len(group), arguments.published or len(group)))
        took = seconds(partial(_publish, members, dataset, device), clock)
        published.append(took / len(members) * len(group))
    architectures = sum(map(len, groups))
    flops = sum(tree_flops(group, protocol) for group in groups)
    return {
        "clock": "CPU time" if arguments.cpu_time else "wall",
        "scope": arguments.scope,
        "precision_of_both": PRECISION.value,
        "groups": len(groups),
        "architectures": architectures,
        "published_measured_per_group": arguments.published or "all",
        "published_s_per_architecture": round(sum(published) / architectures, 4),
        "engine_s_per_architecture": round(sum(engine) / architectures, 4),
        "speedup": round(sum(published) / sum(engine), 2),
        "sgemm_gflops_per_s": round(statistics.median(rates) / 1e9),
        "engine_gflops_per_s": round(flops / sum(engine) / 1e9),
        "sgemm_share": round(flops / sum(engine) / statistics.median(rates), 3),
        "threads": torch.get_num_threads(),
    }


def run_experiment(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what the whole published experiment takes on one device, or a sample of its groups.

    Gates on every trial, five trials for survivors, throughput measured; then the published
    procedure for a few random networks on the same device.
    """
    timing = Timing(max_s=0.1)
    gates = Gates(min_accuracy=0.25, min_throughput=200)
    protocol = _protocol(arguments, timing=timing, gates=gates)
    opened = use_device(open_device(arguments.device, get_settings().runtime_dir))
    dataset, device = _dataset(arguments, protocol), opened.torch_device
    space = random_cnn_2025()
    wanted = arguments.groups or space.groups
    chosen = random.Random(0).sample(range(space.groups), wanted)
    size = space.blocks[0].group_size
    states: Counter[str] = Counter()
    started = time.perf_counter()
    for done, number in enumerate(chosen):
        if done % REPORT_GROUPS == 0:
            passed_s = time.perf_counter() - started
            print(f"{done} of {wanted} groups after {passed_s:.1f} s", file=sys.stderr, flush=True)
        group = [space.architecture(number * size + member) for member in range(size)]
        trials = [range(protocol.trials)] * size
        outcomes = evaluate_group(
            group, trials, dataset, protocol, device, memory_budget_bytes=opened.memory_budget_bytes
        )
        states.update(outcome.status.value for outcome in outcomes)
    took = time.perf_counter() - started
    probed = sum(count for state, count in states.items() if state != JobStatus.INVALID)
    sample = [random.Random(2).choice(valid) for valid in _valid_groups(chosen[:12])]
    published = seconds(partial(_publish, sample, dataset, device)) / len(sample)
    return {
        "device": opened.model,
        "memory_budget_bytes": opened.memory_budget_bytes,
        "precision_of_both": PRECISION.value,
        "groups": f"{wanted} of {space.groups}",
        "seeded": wanted * size,
        "probed": probed,
        **states,
        "seconds": round(took, 2),
        "seconds_for_all_groups": round(took * space.groups / wanted, 1),
        "published_s_per_architecture": round(published, 4),
        "published_s_for_all_probed_once": round(published * probed, 1),
        "speedup": round(published * probed / took, 2),
        "torch": torch.__version__,
    }


def measure_memory(budget: int) -> dict[str, Any]:
    """Returns the peak memory over the published group with the most features.

    Of this process, which has loaded what a worker loads, and has worked on other groups before.
    """
    importlib.import_module("worker.process")
    protocol = Protocol(dataset="noise", timing=None)
    dataset = noise_dataset(protocol.train_images)
    worst = widest_group()
    small = Architecture((LayerConfig(2, 9, 3, 3, 0, "relu"),))

    def evaluate(group: Group) -> None:
        evaluate_group(
            group, [range(1)] * len(group), dataset, protocol, torch.device("cpu"),
            memory_budget_bytes=budget,
        )  # fmt: skip

    evaluate([small])  # so that libraries are loaded
    before = _peak_bytes()
    for group in sample_groups(OTHER_GROUPS):
        evaluate(group)
    started = time.perf_counter()
    evaluate(worst)
    return {
        "budget_mib": budget // 2**20,
        "architectures": len(worst),
        "prefix": "-".join(layer.key for layer in worst[0].prefix),
        "peak_before_mib": before // 2**20,
        "peak_mib": _peak_bytes() // 2**20,
        "peak_over_budget_mib": (_peak_bytes() - budget) // 2**20,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _evaluate(group: Group, dataset: Dataset, protocol: Protocol, device: torch.device) -> None:
    outcomes = evaluate_group(group, [range(1)] * len(group), dataset, protocol, device)
    assert all(outcome.status is JobStatus.COMPLETED for outcome in outcomes)


def _publish(members: Group, dataset: Dataset, device: torch.device) -> None:
    from bench.published_procedure import published_accuracy  # scikit-learn takes 100 MiB

    for architecture in members:
        published_accuracy(architecture, dataset, device, PRECISION)


def _valid_groups(numbers: list[int]) -> list[Group]:
    space = random_cnn_2025()
    return [group for number in numbers if (group := valid_group(space, number))]


def _protocol(arguments: argparse.Namespace, timing: Timing | None, gates: Gates) -> Protocol:
    weights = Weights(scope=WeightSharing(arguments.scope))
    return Protocol(dataset=arguments.dataset, timing=timing, gates=gates, weights=weights)


def _dataset(arguments: argparse.Namespace, protocol: Protocol) -> Dataset:
    return load_dataset(arguments.data_dir, protocol)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--dataset", default="digits", help="digits needs no file")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--groups", type=int, help="random groups; 12, or all with --full")
    parser.add_argument(
        "--scope", default="siblings", choices=[scope.value for scope in WeightSharing]
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--published",
        type=int,
        metavar="K",
        help="run the published procedure on K networks of each group, not on all",
    )
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time, not wall time")
    parser.add_argument("--full", action="store_true", help="the whole published experiment")
    parser.add_argument("--growth", type=Path, metavar="PNG", help="cost by images and channels")
    parser.add_argument("--memory", type=float, metavar="MIB", help="peak of the worst group")
    parser.add_argument("--json", action="store_true")
    return parser  # fmt: skip


if __name__ == "__main__":
    main()
