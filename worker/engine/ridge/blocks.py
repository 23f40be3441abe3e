"""The probe of a network whose features exceed the memory budget, block by block of its rows.

Rows are computed again whenever they are needed: slow, but it always works.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from worker.engine.cpu.products import times_transposed
from worker.engine.ridge.fit import Fit, Targets, solve_dual, solve_primal, with_intercept

Rows = Callable[[int, int], Tensor]


def fit_ridge_in_blocks(
    rows: Rows, features: int, block: int, targets: Targets, alpha: float
) -> Fit:
    """Fits the probe of training features F (n, p), float32, known by ``rows(start, stop)``.

    At most two blocks of ``block`` rows are asked for and alive at a time. The same fit as
    ``fit_ridge`` but for rounding.
    """
    blocks = list(_blocks(len(targets.codes), block))
    if features < len(targets.codes):
        return _fit_primal(rows, features, blocks, targets, alpha)
    total = len(targets.codes)
    kernel = targets.codes.new_empty(1, total, total)
    for start, stop in blocks:
        left = rows(start, stop)
        for other, end in blocks:
            if other <= start:
                part = times_transposed(left, left if other == start else rows(other, end)).double()
                kernel[0, start:stop, other:end] = part
                kernel[0, other:end, start:stop] = part.T
    (solution,) = solve_dual(kernel, targets, alpha)
    weights = targets.codes.new_zeros(solution.shape[1], features, dtype=torch.float32)
    for start, stop in blocks:
        weights += solution[start:stop].T.float() @ rows(start, stop)
    return with_intercept(weights, kernel[0] @ solution, targets)


def _fit_primal(
    rows: Rows, features: int, blocks: list[tuple[int, int]], targets: Targets, alpha: float
) -> Fit:
    new = targets.codes.new_zeros
    mean = new(features)
    for start, stop in blocks:
        mean += rows(start, stop).double().sum(dim=0) / len(targets.codes)
    covariance = new(features, features)
    products = new(features, targets.codes.shape[1])
    for start, stop in blocks:
        centred = rows(start, stop).double() - mean
        covariance += centred.T @ centred
        products += centred.T @ targets.centred[start:stop]
    weights = solve_primal(covariance, products, alpha)
    uncentred = [rows(start, stop).double() @ weights for start, stop in blocks]
    return with_intercept(weights.T.float(), torch.cat(uncentred), targets)


def _blocks(total: int, block: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + block, total)) for start in range(0, total, block))
