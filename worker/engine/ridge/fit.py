"""The probe: scikit-learn's ridge classifier, solved in its dual form on the device."""

# Notation: n training images, p features, k columns of targets; F (n, p) features, Y (n, k) codes,
# F_c and Y_c both centred over the training images. RidgeClassifier(alpha) minimises
# |F_c W - Y_c|^2 + alpha |W|^2, so W = F_c' A with the n x n system (F_c F_c' + alpha I) A = Y_c.
# The columns of A add up to zero, so F_c' A = F' A: features themselves are never centred.

from collections.abc import Sequence
from dataclasses import dataclass

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


def encode_labels(labels: Tensor) -> Targets:
    """Returns the targets of int64 labels (n,), on their device."""
    classes = torch.unique(labels)
    columns = classes[1:] if len(classes) == 2 else classes
    codes = (labels[:, None] == columns).to(torch.float64) * 2 - 1
    if len(classes) == 1:  # a single class is the negative one, as in scikit-learn
        codes = -torch.ones_like(codes)
    return Targets(classes, codes)


def fit_ridge(features: Sequence[Tensor], targets: Targets, alpha: float) -> list[Fit]:
    """Fits one probe for each matrix of training features, float32 (n, p) with any p.

    Agrees with ``sklearn.linear_model.RidgeClassifier(alpha)`` on the same numbers in float64 but
    for rounding. The n x n systems of all matrices with p >= n are solved in one batch, the p x p
    systems of the others one by one. Non-finite features make non-finite scores. On CUDA
    everything is launched and nothing is waited for.
    """
    dual = [i for i, matrix in enumerate(features) if matrix.shape[1] >= len(matrix)]
    fits: dict[int, Fit] = {}
    if dual:
        kernels = torch.stack([gram(features[i]).double() for i in dual])
        solutions = solve_dual(kernels, targets, alpha)
        for i, kernel, solution in zip(dual, kernels, solutions, strict=True):
            weights = solution.T.float() @ features[i]
            fits[i] = with_intercept(weights, kernel @ solution, targets)
    for i, matrix in enumerate(features):
        if i not in fits:
            fits[i] = fit_primal(matrix, targets, alpha)
    return [fits[i] for i in range(len(features))]


def fit_primal(features: Tensor, targets: Targets, alpha: float) -> Fit:
    """Fits one probe by its p x p system in float64; for features float32 (n, p) with p < n."""
    centred = features.double()
    centred -= centred.mean(dim=0)
    weights = solve_primal(centred.T @ centred, centred.T @ targets.centred, alpha)
    return with_intercept(weights.T.float(), features.double() @ weights, targets)


def with_intercept(weights: Tensor, uncentred: Tensor, targets: Targets) -> Fit:
    """Returns the fit of weights (k, p) whose scores F W of the training images are given."""
    intercept = targets.mean - uncentred.mean(dim=0)
    return Fit(weights.contiguous(), intercept, uncentred + intercept)


def solve_dual(kernels: Tensor, targets: Targets, alpha: float) -> Tensor:
    """Returns float64 (b, n, k): the dual coefficients of each of b kernels F F' (b, n, n).

    A kernel whose centred part is nothing but rounding belongs to constant features: its
    coefficients are zero, so that the intercept alone decides.
    """
    centred = kernels - kernels.mean(dim=1, keepdim=True)
    centred -= centred.mean(dim=2, keepdim=True)
    diagonal = centred.diagonal(dim1=1, dim2=2)
    total = kernels.diagonal(dim1=1, dim2=2).sum(dim=1)
    constant = diagonal.sum(dim=1) <= total * ROUNDING
    diagonal += alpha
    factor = torch.linalg.cholesky_ex(centred).L
    solution = torch.cholesky_solve(targets.centred.expand(len(kernels), -1, -1), factor)
    return solution.masked_fill_(constant[:, None, None], 0.0)


def solve_primal(covariance: Tensor, products: Tensor, alpha: float) -> Tensor:
    """Returns W, float64 (p, k), of F_c' F_c (p, p), which it overwrites, and F_c' Y_c (p, k)."""
    covariance.diagonal().add_(alpha)
    return torch.cholesky_solve(products, torch.linalg.cholesky_ex(covariance).L)


def scores(fit: Fit, features: Tensor) -> Tensor:
    """Returns the decision values, float64 (m, k), of contiguous features float32 (m, p)."""
    return times_transposed(features, fit.weights).double() + fit.intercept


def predict(targets: Targets, decision: Tensor) -> Tensor:
    """Returns the predicted labels, int64 (m,), of decision values (m, k).

    A tie goes to the lowest label, as in scikit-learn.
    """
    if decision.shape[1] == 1:
        return targets.classes[(decision[:, 0] > 0).long()]
    best = decision == decision.amax(dim=1, keepdim=True)
    return targets.classes[best.to(torch.uint8).argmax(dim=1)]
