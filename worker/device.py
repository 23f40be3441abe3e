"""The device that a worker computes on: its choice, description and memory budget."""

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.domain.errors import DeviceUnavailableError
from shared.domain.measurements import Environment
from shared.version import code_version

CPU_MEMORY_BUDGET_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """A device, with the facts that results record about it."""

    torch_device: torch.device
    device_class: str  # "cpu" or "cuda"
    model: str
    versions: dict[str, str]
    memory_budget_bytes: int
    lock_path: Path  # shared by this user's processes that use the device
    uuid: str | None = None  # of a GPU, as its driver writes it

    def environment(self, dataset: str, dataset_hash: str) -> Environment:
        """Returns the origin of results that this device makes from a dataset."""
        return Environment(
            code_version=code_version(),
            device_class=self.device_class,
            device=self.model,
            dataset=dataset,
            dataset_hash=dataset_hash,
            versions=self.versions,
        )


def list_devices(
    name: str,
    runtime_dir: Path,
    memory_budget_bytes: int | None = None,
    workers_per_device: int = 1,
) -> list[Device]:
    """Returns the devices that ``name`` allows: ``cpu``, ``cuda:N``, or all GPUs for ``cuda``.

    ``auto`` means all GPUs, or the processor where there is none. Never empty. Workers that share
    a device share its memory.

    Raises:
        DeviceUnavailableError: this machine has no such device.
    """
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if wanted == "cpu":
        return [_open_cpu(runtime_dir, memory_budget_bytes)]
    if not torch.cuda.is_available():
        raise DeviceUnavailableError(
            f"Device {name} was requested, but PyTorch finds no CUDA device here. "
            "Check nvidia-smi and the driver, or use --device cpu."
        )
    index = torch.device(wanted).index
    indices = range(torch.cuda.device_count()) if index is None else [index]
    return [
        _open_cuda(index, runtime_dir, memory_budget_bytes, workers_per_device) for index in indices
    ]


def open_device(name: str, runtime_dir: Path, memory_budget_bytes: int | None = None) -> Device:
    """Returns the first device that ``name`` allows.

    Raises:
        DeviceUnavailableError: this machine has no such device.
    """
    return list_devices(name, runtime_dir, memory_budget_bytes)[0]


def _open_cpu(runtime_dir: Path, memory_budget_bytes: int | None) -> Device:
    return Device(
        torch_device=torch.device("cpu"),
        device_class="cpu",
        model=_cpu_model(),
        versions=_versions(),
        memory_budget_bytes=memory_budget_bytes or CPU_MEMORY_BUDGET_BYTES,
        lock_path=runtime_dir / "device-cpu.lock",
    )


def _open_cuda(
    index: int, runtime_dir: Path, memory_budget_bytes: int | None, workers_per_device: int
) -> Device:
    if index >= torch.cuda.device_count():
        raise DeviceUnavailableError(
            f"Device cuda:{index} was requested; this machine has {torch.cuda.device_count()}."
        )
    properties = torch.cuda.get_device_properties(index)
    versions = _versions() | {
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }
    fair_share = properties.total_memory // 2 // workers_per_device
    return Device(
        torch_device=torch.device("cuda", index),
        device_class="cuda",
        model=properties.name,
        versions=versions,
        memory_budget_bytes=memory_budget_bytes or fair_share,
        lock_path=runtime_dir / f"device-cuda-{properties.uuid}.lock",
        uuid=f"GPU-{properties.uuid}",
    )


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        # read from the installation: importing them takes longer than the rest of the start
        **{name: importlib.metadata.version(name) for name in ("torchvision", "scikit-learn")},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({torch.get_num_threads()} threads)"
