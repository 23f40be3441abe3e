"""The probe: scikit-learn's ridge classifier, solved in its dual form on the device."""

# Notation: n training images, p features, k columns of targets; F (n, p) features, Y (n, k) codes,
# F_c and Y_c both centred over the training images. RidgeClassifier(alpha) minimises
# |F_c W - Y_c|^2 + alpha |W|^2, so W = F_c' A with the n x n system (F_c F_c' + alpha I) A = Y_c.
# The columns of A add up to zero, so F_c' A = F' A: features themselves are never centred.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from worker.engine.cpu.products import gram, times_transposed

ROUNDING = 1e-7  # a centred kernel this small beside the kernel itself is float32's rounding


@dataclass(frozen=True)
class Targets:
    """Training labels as scikit-learn's ``LabelBinarizer(pos_label=1, neg_label=-1)`` codes them.

    ``classes`` int64 (c,) are the labels that occur, ascending. ``codes`` float64 (n, k) holds 1
    where a label is meant and -1 elsewhere; k is c, or 1 for two classes or fewer.
    """

    classes: Tensor
    codes: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean code of every column, float64 (k,)."""
        return self.codes.mean(dim=0)

    @property
    def centred(self) -> Tensor:
        """Codes less their mean, float64 (n, k)."""
        return self.codes - self.mean


@dataclass(frozen=True)
class Fit:
    """A fitted probe, on the device of the features.

    Decision values of features F are ``F @ weights.T + intercept``, of the training images
    ``train_scores`` float64 (n, k). ``weights`` float32 (k, p), ``intercept`` float64 (k,).
    """

    weights: Tensor
    intercept: Tensor
    train_scores: Tensor


@dataclass(frozen=True)
class Fits(Sequence[Fit]):
    """Probes that were fitted together; those of ``b`` networks that differ in p.

    ``weights`` float32 (k, p) each, ``intercepts`` float64 (b, k), ``train_scores`` float64
    (b, n, k).
    """

    weights: list[Tensor]
    intercepts: Tensor
    train_scores: Tensor

    def __len__(self) -> int:
        return len(self.weights)

    @overload
    def __getitem__(self, place: int) -> Fit: ...
    @overload
    def __getitem__(self, place: slice) -> list[Fit]: ...
    def __getitem__(self, place: int | slice) -> Fit | list[Fit]:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        return Fit(self.weights[place], self.intercepts[place], self.train_scores[place])


def encode_labels(labels: Tensor) -> Targets:
    """Returns the targets of int64 labels (n,), on their device."""
    classes = torch.unique(labels)
    columns = classes[1:] if len(classes) == 2 else classes
    codes = (labels[:, None] == columns).to(torch.float64) * 2 - 1
    if len(classes) == 1:  # a single class is the negative one, as in scikit-learn
        codes = -torch.ones_like(codes)
    return Targets(classes, codes)


def fit_ridge(features: Sequence[Tensor], targets: Targets, alpha: float) -> "Fits":
    """Fits one probe for each matrix of training features, float32 (n, p) with any p.

    Agrees with ``sklearn.linear_model.RidgeClassifier(alpha)`` on the same numbers in float64
    except for rounding. The n x n systems of all matrices are solved in one batch. Non-finite
    features make non-finite scores, and so does a system that cannot be factored. On CUDA
    everything is launched and nothing is waited for.
    """
    kernels = _kernels(features)
    solutions = solve_dual(kernels, targets, alpha)
    coefficients = solutions.mT
    rounded = coefficients.float()
    weights = [
        (coefficients[i] @ matrix.double()).float() if _is_narrow(matrix) else rounded[i] @ matrix
        for i, matrix in enumerate(features)
    ]
    return with_intercepts(weights, kernels @ solutions, targets)


def _is_narrow(matrix: Tensor) -> bool:
    """Whether a matrix (n, p) has p < n.

    Its kernel is singular, so that rounding would matter: its products are made in float64.
    """
    return matrix.shape[1] < len(matrix)


def _kernels(features: Sequence[Tensor]) -> Tensor:
    """Returns F F' of every matrix, float64 (b, n, n)."""
    size = len(features[0])
    products = features[0].new_empty(len(features), size, size)
    for matrix, product in zip(features, products, strict=True):
        if not _is_narrow(matrix):
            gram(matrix, product)
    kernels = products.double()
    for matrix, kernel in zip(features, kernels, strict=True):
        if _is_narrow(matrix):
            wide = matrix.double()
            torch.mm(wide, wide.T, out=kernel)
    return kernels


def with_intercepts(weights: Sequence[Tensor], uncentred: Tensor, targets: Targets) -> "Fits":
    """Returns fits of weights (k, p); their scores F W of the training images are (b, n, k)."""
    intercepts = targets.mean - uncentred.mean(dim=1)
    return Fits(list(weights), intercepts, uncentred + intercepts[:, None])


def solve_dual(kernels: Tensor, targets: Targets, alpha: float) -> Tensor:
    """Returns float64 (b, n, k): the dual coefficients of each of b kernels F F' (b, n, n).

    A kernel whose centred part is nothing but rounding belongs to constant features: its
    coefficients are zero, so that only the intercept decides. The coefficients of a system that
    is not positive definite are NaN.
    """
    centred = kernels - kernels.mean(dim=1, keepdim=True)
    centred -= centred.mean(dim=2, keepdim=True)
    diagonal = centred.diagonal(dim1=1, dim2=2)
    total = kernels.diagonal(dim1=1, dim2=2).sum(dim=1)
    constant = diagonal.sum(dim=1) <= total * ROUNDING
    diagonal += alpha
    factor, info = torch.linalg.cholesky_ex(centred)
    # two triangular solves: cuSOLVER's potrs takes one matrix at a time
    half: Tensor = torch.linalg.solve_triangular(factor, targets.centred[None], upper=False)
    solution: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    solution.masked_fill_((info != 0)[:, None, None], float("nan"))
    solution.masked_fill_(constant[:, None, None], 0.0)
    return solution


def scores(fit: Fit, features: Tensor) -> Tensor:
    """Returns the decision values, float64 (m, k), of contiguous features float32 (m, p)."""
    return times_transposed(features, fit.weights).double() + fit.intercept


def scores_together(fits: Fits, features: Sequence[Tensor]) -> Tensor:
    """Returns the decision values, float64 (b, m, k), of features float32 (m, p) for each fit."""
    columns = fits.intercepts.shape[1]
    products = features[0].new_empty(len(fits), len(features[0]), columns)
    for matrix, weights, product in zip(features, fits.weights, products, strict=True):
        torch.mm(matrix, weights.T, out=product)
    return products.double() + fits.intercepts[:, None]


def predict(targets: Targets, decision: Tensor) -> Tensor:
    """Returns the predicted labels, int64 (..., m), of decision values (..., m, k).

    A tie goes to the lowest label, as in scikit-learn.
    """
    if decision.shape[-1] == 1:
        return targets.classes[(decision[..., 0] > 0).long()]
    best = decision == decision.amax(dim=-1, keepdim=True)
    return targets.classes[best.to(torch.uint8).argmax(dim=-1)]
