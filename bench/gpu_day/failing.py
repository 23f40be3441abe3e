"""Failures: too little memory must cost time only, a broken context must end the process."""

import subprocess
import sys

import torch

from bench.gpu_day.day import PROTOCOL, SKIPPED_ON_CPU, Day, Figures
from worker.engine.budgets import MEMORY_LIMITS
from worker.engine.evaluate import evaluate_group

LITTLE_BYTES = 1.5e9

BREAK_THE_CONTEXT = """
import torch
from shared.domain.errors import DevicePoisonedError
from worker.engine.faults import classify

device = torch.device("cuda")
values = torch.zeros(4, device=device)
try:
    values[torch.tensor([9], device=device)].cpu()
except RuntimeError as error:
    try:
        classify(error, device)
    except DevicePoisonedError:
        print("recognised")
"""


def check_out_of_memory(day: Day) -> Figures:
    """Evaluates a group with the memory of a small GPU and the budget of this one."""
    if not day.on_cuda:
        return SKIPPED_ON_CPU
    (group,) = day.groups(1, 8)
    _, total = torch.cuda.mem_get_info(day.device)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(LITTLE_BYTES / total, day.device)
    try:
        outcomes = evaluate_group(
            group, [range(1)] * len(group), day.dataset, PROTOCOL, day.device,
            memory_budget_bytes=day.opened.memory_budget_bytes,
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, day.device)
        MEMORY_LIMITS.forget()
    statuses = sorted({outcome.status.value for outcome in outcomes})
    errors = [outcome.error for outcome in outcomes if outcome.error]
    return {"statuses": statuses, "errors": errors[:1], "ok": statuses == ["completed"]}


def check_broken_context(day: Day) -> Figures:
    """Breaks the context of a process of its own; the engine must recognise it."""
    if not day.on_cuda:
        return SKIPPED_ON_CPU
    command = [sys.executable, "-c", BREAK_THE_CONTEXT]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    return {"output": done.stdout.strip(), "ok": "recognised" in done.stdout}
