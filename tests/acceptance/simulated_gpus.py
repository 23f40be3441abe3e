"""A worker on a machine with the GPUs that SIMULATED_GPUS lists; it computes on the processor.

The list is what PyTorch would find; all else is the real worker.
"""

import json
import os
from dataclasses import replace

from shared.settings import get_settings
from worker.device import open_device
from worker.process import run_worker

MODEL = "a simulated GPU"

if __name__ == "__main__":
    processor = open_device("cpu", get_settings().runtime_dir)
    gpus = [
        replace(processor, uuid=uuid, device_class="cuda", model=MODEL)
        for uuid in json.loads(os.environ["SIMULATED_GPUS"])
    ]
    raise SystemExit(run_worker(get_settings(), devices=gpus))
