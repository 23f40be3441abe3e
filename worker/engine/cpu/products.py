"""Products of float32 feature matrices: symmetric ones done by halves, oneDNN on the CPU.

PyTorch sends float32 ``mm`` to MKL, which leaves AVX-512 unused on processors of other makers;
oneDNN, which runs the convolutions, uses it on all of them.
"""

import torch
from torch import Tensor

GRAM_BLOCKS = 4  # block rows of a symmetric product: 5/8 of the work; more make the blocks slow


def times_transposed(left: Tensor, right: Tensor, *, onednn: bool | None = None) -> Tensor:
    """Returns left right', float32 (m, n), of contiguous float32 (m, p) and (n, p).

    ``onednn`` chooses the library on the CPU; by default oneDNN, where this PyTorch has it.
    """
    if left.device.type == "cpu" and (has_onednn() if onednn is None else onednn):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
        return product
    return left @ right.T


def gram(features: Tensor, kernel: Tensor) -> None:
    """Writes F F' into ``kernel``, float32 (n, n), of contiguous float32 features (n, p).

    On the CPU only blocks on and below the diagonal are computed, the others are mirrored. On CUDA
    one product is: there a whole one keeps the device busier than its blocks would.
    """
    if features.device.type != "cpu":
        torch.mm(features, features.T, out=kernel)
        return
    size = len(features)
    step = -(-size // GRAM_BLOCKS)
    for start in range(0, size, step):
        rows = slice(start, start + step)
        left = times_transposed(features[rows], features[: start + step])
        kernel[rows, : left.shape[1]] = left
        kernel[:start, rows] = left[:, :start].T


def has_onednn() -> bool:
    """Returns whether this build of PyTorch can multiply float32 matrices with oneDNN."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")
