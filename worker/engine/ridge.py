"""The probe: scikit-learn's ridge classifier, solved in its dual form on the device.

Notation: n training images, p features, k columns of targets; F (n, p) features, Y (n, k) codes,
F_c and Y_c both centred over the training images. RidgeClassifier(alpha) minimises
|F_c W - Y_c|^2 + alpha |W|^2, so W = F_c' (F_c F_c' + alpha I)^-1 Y_c, an n x n system.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Training labels as scikit-learn's ``LabelBinarizer(pos_label=1, neg_label=-1)`` codes them.

    ``classes`` int64 (c,) are the labels that occur, ascending. ``codes`` float64 (n, k) holds 1
    where a label is meant and -1 elsewhere; k is c, or 1 for two classes or fewer.
    """

    classes: Tensor
    codes: Tensor


@dataclass(frozen=True)
class Fit:
    """A fitted probe: scores of features F are ``F @ weights + intercept``.

    ``weights`` float32 (p, k), ``intercept`` float64 (k,), on the device of the features.
    """

    weights: Tensor
    intercept: Tensor
    classes: Tensor


def encode_labels(labels: Tensor) -> Targets:
    """Returns the targets of int64 labels (n,), on their device."""
    classes = torch.unique(labels)
    columns = classes[1:] if len(classes) == 2 else classes
    codes = (labels[:, None] == columns).to(torch.float64) * 2 - 1
    if len(classes) == 1:
        codes = -torch.ones_like(codes)
    return Targets(classes, codes)


def fit_ridge(features: Sequence[Tensor], targets: Targets, alpha: float) -> list[Fit]:
    """Fits one probe for each matrix of training features, float32 (n, p) with any p.

    Agrees with ``sklearn.linear_model.RidgeClassifier(alpha)`` on the same numbers in float64 but
    for rounding. Non-finite features make non-finite weights. Launches everything and waits for
    nothing on CUDA.
    """
    dual = [i for i, matrix in enumerate(features) if matrix.shape[1] >= matrix.shape[0]]
    fits: dict[int, Fit] = {}
    if dual:
        kernels = torch.stack([gram(features[i]).double() for i in dual])
        for i, coefficients in zip(dual, solve_dual(kernels, targets, alpha), strict=True):
            fits[i] = _with_intercept(features[i], features[i].T @ coefficients.float(), targets)
    for i, matrix in enumerate(features):
        if i not in fits:
            fits[i] = _with_intercept(matrix, solve_primal(matrix, targets, alpha), targets)
    return [fits[i] for i in range(len(features))]


def scores(fit: Fit, features: Tensor) -> Tensor:
    """Returns the decision values, float64 (n, k), of features float32 (n, p)."""
    return (features @ fit.weights).double() + fit.intercept


def predict(fit: Fit, decision: Tensor) -> Tensor:
    """Returns the predicted labels, int64 (n,), of decision values (n, k).

    A tie goes to the lowest label, as in scikit-learn.
    """
    if decision.shape[1] == 1:
        return fit.classes[(decision[:, 0] > 0).long()]
    best = decision == decision.amax(dim=1, keepdim=True)
    return fit.classes[best.to(torch.uint8).argmax(dim=1)]


def gram(features: Tensor) -> Tensor:
    """Returns F F', float32 (n, n), of float32 features (n, p)."""
    return features @ features.T


def solve_dual(kernels: Tensor, targets: Targets, alpha: float) -> Tensor:
    """Returns float64 (b, n, k): the dual coefficients of each of b kernels F F' (b, n, n).

    A kernel whose centred part is nothing but rounding belongs to constant features: its
    coefficients are zero, so that the intercept alone decides.
    """
    total = kernels.diagonal(dim1=1, dim2=2).sum(dim=1)
    centred = kernels - kernels.mean(dim=1, keepdim=True)
    centred -= centred.mean(dim=2, keepdim=True)
    diagonal = centred.diagonal(dim1=1, dim2=2)
    constant = diagonal.sum(dim=1) <= total * 1e-7
    diagonal += alpha
    factor = torch.linalg.cholesky_ex(centred).L
    solution = torch.cholesky_solve(_centred_codes(targets).expand(len(kernels), -1, -1), factor)
    return solution * ~constant[:, None, None]


def solve_primal(features: Tensor, targets: Targets, alpha: float) -> Tensor:
    """Returns W, float32 (p, k), from the p x p system: smaller than n x n where p < n."""
    centred = features.double()
    centred -= centred.mean(dim=0)
    system = centred.T @ centred
    system.diagonal().add_(alpha)
    factor = torch.linalg.cholesky_ex(system).L
    return torch.cholesky_solve(centred.T @ _centred_codes(targets), factor).float()


def _centred_codes(targets: Targets) -> Tensor:
    return targets.codes - targets.codes.mean(dim=0)


def _with_intercept(features: Tensor, weights: Tensor, targets: Targets) -> Fit:
    mean_score = (features @ weights).double().mean(dim=0)
    return Fit(weights, targets.codes.mean(dim=0) - mean_score, targets.classes)
