"""The device that a worker computes on: its choice, description and memory budget."""

import importlib.metadata
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from shared.domain.errors import DeviceUnavailableError
from shared.domain.measurements import Environment
from shared.version import code_version

CPU_MEMORY_BUDGET_BYTES = 4 * 2**30
CAPPED_SHARE = 0.9  # of a shared GPU, by PyTorch; the rest is for the contexts of its workers


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
    workers: int = 1  # processes that share the device
    chosen_budget_bytes: int | None = None  # the user's choice of a memory budget

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
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if chosen == "cpu":
        return [_open_cpu(runtime_dir, memory_budget_bytes)]
    if not torch.cuda.is_available():
        raise DeviceUnavailableError(
            f"Device {name} was requested, but PyTorch finds no CUDA device here. "
            "Check nvidia-smi and the driver, or use --device cpu."
        )
    index = torch.device(chosen).index
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
    return Device(
        torch_device=torch.device("cuda", index),
        device_class="cuda",
        model=properties.name,
        versions=versions,
        memory_budget_bytes=memory_budget_bytes
        or _share(properties.total_memory, workers_per_device),
        lock_path=runtime_dir / f"device-cuda-{properties.uuid}.lock",
        uuid=driver_uuid(properties.name, str(properties.uuid)),
        workers=workers_per_device,
        chosen_budget_bytes=memory_budget_bytes,
    )


def use_device(device: Device) -> Device:
    """Makes a device the one that this process computes on; returns it with its memory budget.

    On CUDA it loads the libraries, so that the first group does not pay for them, caps the memory
    of processes that share the GPU, and takes the budget from the memory that is free.
    """
    if device.torch_device.type != "cuda":
        return device
    torch.cuda.set_device(device.torch_device)
    free, _ = torch.cuda.mem_get_info(device.torch_device)
    if device.workers > 1:
        share = CAPPED_SHARE / device.workers
        torch.cuda.set_per_process_memory_fraction(share, device.torch_device)
    _load_libraries(device.torch_device)
    budget = device.chosen_budget_bytes or min(device.memory_budget_bytes, free // 2)
    return replace(device, memory_budget_bytes=budget)


def driver_uuid(name: str, uuid: str) -> str:
    """Returns the UUID of a GPU, or of a part of one (MIG), as its driver writes it."""
    return f"MIG-{uuid}" if " MIG " in name else f"GPU-{uuid}"


def _share(total_bytes: int, workers: int) -> int:
    """Returns the budget of one of ``workers``: half of its part; libraries need memory, too."""
    return total_bytes // workers // 2


def _load_libraries(device: torch.device) -> None:
    """Runs one small operation of cuDNN, cuBLAS and cuSOLVER."""
    images = torch.ones(1, 1, 4, 4, device=device)
    torch.nn.functional.conv2d(images, images)
    matrix = torch.eye(4, dtype=torch.float64, device=device)
    torch.linalg.cholesky_ex(matrix @ matrix)
    torch.cuda.synchronize(device)


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
