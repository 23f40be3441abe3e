"""What the machine is, and what the first group costs."""

import os
import subprocess
import time

import torch

from bench.gpu_day.day import Day, Figures

SMI_FIELDS = (
    "uuid,mig.mode.current,driver_version,clocks.sm,clocks.max.sm,compute_mode,persistence_mode"
)


def describe_machine(day: Day) -> Figures:
    """Returns versions, and for a GPU its driver, clocks, memory and MIG mode."""
    figures: Figures = {
        "device": day.opened.model,
        "versions": day.opened.versions,
        "memory_budget_bytes": day.opened.memory_budget_bytes,
        "cpus": len(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return figures | (_describe_gpu(day) if day.on_cuda else {})


def _describe_gpu(day: Day) -> Figures:
    properties = torch.cuda.get_device_properties(day.device)
    free, total = torch.cuda.mem_get_info(day.device)
    command = ["nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return {
        "uuid": day.opened.uuid,
        "multiprocessors": properties.multi_processor_count,
        "memory_free_bytes": free,
        "memory_total_bytes": total,
        "nvidia_smi_fields": SMI_FIELDS,
        "nvidia_smi": asked.stdout.strip().splitlines(),
    }


def measure_cold_start(day: Day) -> Figures:
    """Returns the seconds of the first group of the process, and of the same group again."""
    (group,) = day.groups(1, 3)
    seconds = []
    for trial in range(2):
        started = time.perf_counter()
        day.predict(group, trial)
        seconds.append(time.perf_counter() - started)
    return {"first_group_s": seconds[0], "second_trial_s": seconds[1]}
