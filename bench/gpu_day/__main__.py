"""``python -m bench.gpu_day --device cuda:0 --output gpu-day.json``: see docs/gpu.md.

Parts run one after another; a part that fails does not end the others. The file is written after
each part. The exit status is 1 if a part failed.
"""

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

from bench.gpu_day.correctness import check_exactness, check_no_waits, check_parity
from bench.gpu_day.day import Day, Figures, Part
from bench.gpu_day.facts import describe_machine, measure_cold_start
from bench.gpu_day.failing import check_broken_context, check_out_of_memory
from bench.gpu_day.speed import (
    compare_convolutions,
    measure_solver,
    measure_throughputs,
    measure_walk,
)
from bench.gpu_day.stopwatches import check_second_gpu, check_stopwatch
from bench.gpu_day.sweep import run_small_sweep
from bench.gpu_day.training import check_training

PARTS: dict[str, Part] = {
    "facts": describe_machine,
    "float32": check_exactness,
    "cold_start": measure_cold_start,
    "parity": check_parity,
    "no_waits": check_no_waits,
    "convolutions": compare_convolutions,
    "solver": measure_solver,
    "walk": measure_walk,
    "throughput": measure_throughputs,
    "stopwatch": check_stopwatch,
    "second_gpu": check_second_gpu,
    "out_of_memory": check_out_of_memory,
    "broken_context": check_broken_context,
    "training": check_training,
    "sweep": run_small_sweep,
}


def main() -> None:
    """Runs the parts that the arguments name and ends with status 1 if one of them failed."""
    arguments = _parser().parse_args()
    day = Day.begin(arguments.device, arguments.images, small=arguments.small)
    results = run_parts(day, arguments.parts or list(PARTS), arguments.output, arguments.seconds)
    failed = failed_parts(results)
    print(f"failed: {', '.join(failed)}" if failed else "all parts passed")
    sys.exit(bool(failed))


def run_parts(day: Day, names: list[str], output: Path, limit_s: float) -> dict[str, Figures]:
    """Runs parts until ``limit_s`` is over; writes all results to ``output`` after each part."""
    started = time.monotonic()
    results: dict[str, Figures] = {}
    for name in names:
        if time.monotonic() - started > limit_s:
            results[name] = {"failed": f"not begun within {limit_s:.0f} s"}
        else:
            results[name] = run_part(PARTS[name], day)
        output.write_text(json.dumps(results, indent=1))
        print(name, json.dumps(results[name])[:300], flush=True)
    return results


def run_part(part: Part, day: Day) -> Figures:
    """Returns a part's figures and duration; the end of the traceback if it failed."""
    started = time.perf_counter()
    try:
        figures = part(day)
    except Exception:  # noqa: BLE001 - the next parts have their own answers
        figures = {"failed": traceback.format_exc(limit=-6)}
    return figures | {"took_s": round(time.perf_counter() - started, 2)}


def failed_parts(results: dict[str, Figures]) -> list[str]:
    """Returns the names of parts that raised, or whose check did not hold."""
    return [
        name for name, part in results.items() if "failed" in part or part.get("ok", True) is False
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_day", description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu for a trial run")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the figures")
    parser.add_argument("--images", type=int, default=500, help="training images, as many again")
    parser.add_argument("--seconds", type=float, default=450, help="no part begins after this")
    parser.add_argument("--small", action="store_true", help="few, small networks: a trial run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all")
    return parser


if __name__ == "__main__":
    main()
