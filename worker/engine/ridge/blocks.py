"""The probe of a network whose features exceed the memory budget, block by block of its rows.

Rows are computed again whenever they are needed: slow, but it always works.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from worker.engine.cpu.products import times_transposed
from worker.engine.ridge.fit import Fit, Targets, solve_dual, with_intercepts

Rows = Callable[[int, int], Tensor]


def fit_ridge_in_blocks(
    rows: Rows, features: int, block: int, targets: Targets, alpha: float
) -> Fit:
    """Fits the probe of training features F (n, p), float32, known by ``rows(start, stop)``.

    At most two blocks of ``block`` rows are asked for and alive at a time. The same fit as
    ``fit_ridge`` except for rounding.
    """
    narrow = features < len(targets.codes)  # its kernel is singular: see ``fit_ridge``
    blocks = list(_blocks(len(targets.codes), block))
    total = len(targets.codes)
    kernel = targets.codes.new_empty(1, total, total)
    for start, stop in blocks:
        left = rows(start, stop)
        for other, end in blocks:
            if other <= start:
                right = left if other == start else rows(other, end)
                part = left.double() @ right.double().T if narrow else _product(left, right)
                kernel[0, start:stop, other:end] = part
                kernel[0, other:end, start:stop] = part.T
    solution = solve_dual(kernel, targets, alpha)
    kind = torch.float64 if narrow else torch.float32
    weights = targets.codes.new_zeros(solution.shape[2], features, dtype=kind)
    for start, stop in blocks:
        coefficients, block_rows = solution[0, start:stop].T, rows(start, stop)
        if narrow:
            weights += coefficients @ block_rows.double()
        else:
            weights += coefficients.float() @ block_rows
    return with_intercepts([weights.float()], kernel @ solution, targets)[0]


def _product(left: Tensor, right: Tensor) -> Tensor:
    return times_transposed(left, right).double()


def _blocks(total: int, block: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + block, total)) for start in range(0, total, block))
