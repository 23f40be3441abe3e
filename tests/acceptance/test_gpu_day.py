"""The first-day command for GPUs, run small on the processor, with every part."""

import json
import subprocess
import sys
from pathlib import Path

from bench.gpu_day.__main__ import PARTS


def run_gpu_day(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu_day", "--device", "cpu", "--small"]
    return subprocess.run(
        [*command, "--images", "60", "--output", output, *options],
        check=False, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_every_part_of_the_first_day_passes_small_on_the_processor(tmp_path: Path) -> None:
    done = run_gpu_day(tmp_path / "day.json")
    results = json.loads((tmp_path / "day.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(results) == list(PARTS)
    assert {name for name, part in results.items() if "skipped" in part} == {
        "no_waits", "second_gpu", "out_of_memory", "broken_context",
    }  # fmt: skip
    assert results["sweep"]["leader"]["rank"] == 1


def test_a_part_that_fails_is_named_and_gives_status_1(tmp_path: Path) -> None:
    done = run_gpu_day(tmp_path / "day.json", "--seconds", "-1", "--parts", "facts", "solver")
    assert done.returncode == 1
    assert done.stdout.endswith("failed: facts, solver\n")
    assert "not begun" in json.loads((tmp_path / "day.json").read_text())["solver"]["failed"]
