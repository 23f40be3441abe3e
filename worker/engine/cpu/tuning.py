"""What the CPU code takes from the machine: number of threads, and what spectral products cost."""

from dataclasses import dataclass

import torch

# A direct convolution's FLOPs per second over spectral products'. Measured: 2.0 on Zen 3 (AVX2);
# with AVX-512, 2.0 to 3.5 make the engine equally fast, 1.5 and 5 slower (docs/benchmarks.md).
SPECTRAL_SLOWDOWN = 2.0


@dataclass(frozen=True, slots=True)
class CpuTuning:
    """Facts about a CPU that decide how, never what, the engine computes.

    ``threads`` is shared among the lanes, or draws weights for a GPU. ``spectral_slowdown`` is how
    many times more operations per second a direct convolution does than the products of the
    frequency domain.
    """

    threads: int
    spectral_slowdown: float


def tuning_of_this_machine() -> CpuTuning:
    """Returns the tuning for this process: the number of threads that PyTorch uses now."""
    return CpuTuning(torch.get_num_threads(), SPECTRAL_SLOWDOWN)
