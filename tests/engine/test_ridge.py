"""The probe against scikit-learn's RidgeClassifier on the same features in float64."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from torch import Tensor

from shared.domain.architecture import Architecture
from shared.domain.space import random_cnn_2025
from tests.engine.networks import digits, digits_protocol, evaluate, right_answers
from worker.engine.cpu.products import gram, has_onednn, times_transposed
from worker.engine.layers import build_network
from worker.engine.ridge.blocks import fit_ridge_in_blocks
from worker.engine.ridge.fit import (
    Targets,
    encode_labels,
    fit_ridge,
    predict,
    scores,
    scores_together,
    solve_dual,
)

IMAGES = 90


def features(columns: int, images: int = 2 * IMAGES, seed: int = 0) -> Tensor:
    """Correlated, uncentred and non-negative, as those of random networks are."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(images, 12, generator=generator)
    mixed = hidden @ torch.randn(12, columns, generator=generator)
    return torch.relu(mixed + torch.randn(images, columns, generator=generator) + 0.5) / 4


def labels(classes: int, seed: int = 1) -> Tensor:
    return torch.randint(classes, (2 * IMAGES,), generator=torch.Generator().manual_seed(seed))


def compare(matrix: Tensor, target: Tensor, tolerance: float = 2e-3) -> None:
    """Asserts equal decision values, on training and validation images, and equal predictions."""
    train, validation = matrix[:IMAGES], matrix[IMAGES:]
    reference = RidgeClassifier(alpha=1.0).fit(train.double().numpy(), target[:IMAGES].numpy())
    targets = encode_labels(target[:IMAGES])
    (fit,) = fit_ridge([train.contiguous()], targets, 1.0)
    ours = scores(fit, validation.contiguous())
    for mine, images in ((ours, validation), (fit.train_scores, train)):
        theirs = reference.decision_function(images.double().numpy()).reshape(mine.shape)
        np.testing.assert_allclose(mine.numpy(), theirs, atol=tolerance)
        expected = reference.predict(images.double().numpy())
        assert (predict(targets, mine).numpy() == expected).mean() > 0.995


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("columns", [1, 40, IMAGES - 1, IMAGES, IMAGES + 1, 900])
def test_dual_ridge_agrees_with_scikit_learn_for_any_features_and_classes(
    columns: int, classes: int
) -> None:
    compare(features(columns), labels(classes))


def test_a_class_missing_from_the_training_images_is_never_predicted() -> None:
    target = labels(6)
    target[:IMAGES][target[:IMAGES] == 3] = 5
    compare(features(300), target)
    targets = encode_labels(target[:IMAGES])
    assert targets.classes.tolist() == [0, 1, 2, 4, 5]
    (fit,) = fit_ridge([features(300)[:IMAGES]], targets, 1.0)
    assert 3 not in predict(targets, scores(fit, features(300)[IMAGES:]))


def test_two_classes_keep_their_own_labels() -> None:
    compare(features(300), labels(2) * 4 + 2)


def test_a_single_class_is_always_predicted() -> None:
    targets = encode_labels(torch.full((IMAGES,), 7))
    (fit,) = fit_ridge([features(200)[:IMAGES]], targets, 1.0)
    assert set(predict(targets, scores(fit, features(200)[IMAGES:])).tolist()) == {7}


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("columns", [30, 400])
@pytest.mark.parametrize("classes", [2, 5])
def test_constant_features_leave_the_decision_to_the_intercept(
    value: float, columns: int, classes: int
) -> None:
    compare(torch.full((2 * IMAGES, columns), value), labels(classes), tolerance=1e-6)


def test_some_constant_features_change_nothing() -> None:
    matrix = features(300)
    matrix[:, ::3] = 0.7
    compare(matrix, labels(5))


def test_a_tie_goes_to_the_lowest_label() -> None:
    targets = encode_labels(torch.tensor([4, 6, 9]))
    decision = torch.tensor([[0.5, 0.5, 0.1], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    assert predict(targets, decision.double()).tolist() == [4, 6, 4]


def test_networks_fitted_together_get_the_weights_of_each_by_itself() -> None:
    matrices = [features(columns)[:IMAGES] for columns in (20, 150, 400, 90)]
    targets = encode_labels(labels(4)[:IMAGES])
    together = fit_ridge(matrices, targets, 0.3)
    for matrix, fit in zip(matrices, together, strict=True):
        (single,) = fit_ridge([matrix], targets, 0.3)
        torch.testing.assert_close(fit.weights, single.weights, atol=1e-5, rtol=1e-4)


def primal_decisions(train: Tensor, images: Tensor, targets: Targets) -> Tensor:
    """Solves the p x p system of the same problem in float64, as an independent check."""
    train, mean = train.double(), train.double().mean(dim=0)
    system = (train - mean).T @ (train - mean) + torch.eye(train.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(system, (train - mean).T @ targets.centred)
    decisions: Tensor = (images.double() - mean) @ weights + targets.mean
    return decisions


@pytest.mark.parametrize("columns", [1, 5, 40, IMAGES - 1, IMAGES, 300])
def test_the_dual_answers_as_the_primal_does(columns: int) -> None:
    matrix, targets = features(columns), encode_labels(labels(6)[:IMAGES])
    (fit,) = fit_ridge([matrix[:IMAGES]], targets, 1.0)
    for ours, images in ((fit.train_scores, matrix[:IMAGES]), (scores(fit, matrix), matrix)):
        theirs = primal_decisions(matrix[:IMAGES], images, targets)
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
        assert torch.equal(predict(targets, ours), predict(targets, theirs))


def test_scores_of_fits_made_together_are_those_of_each_fit() -> None:
    matrices = [features(columns) for columns in (20, 150, 400)]
    targets = encode_labels(labels(4)[:IMAGES])
    fits = fit_ridge([matrix[:IMAGES] for matrix in matrices], targets, 1.0)
    together = scores_together(fits, [matrix[IMAGES:] for matrix in matrices])
    for fit, matrix, decision in zip(fits, matrices, together, strict=True):
        torch.testing.assert_close(decision, scores(fit, matrix[IMAGES:]), atol=1e-5, rtol=1e-5)


def test_a_system_that_cannot_be_factored_gives_no_finite_scores() -> None:
    targets = encode_labels(labels(4)[:IMAGES])
    kernels = torch.eye(IMAGES, dtype=torch.float64).repeat(2, 1, 1)
    kernels[0, 7, 7] = -9  # no kernel has a negative eigenvalue
    broken, solved = solve_dual(kernels, targets, 1.0)
    assert broken.isnan().all()
    assert solved.isfinite().all()


@pytest.mark.parametrize("columns", [33, 500])
@pytest.mark.parametrize("block", [1, 7, 45, 200])
def test_blocks_of_rows_give_the_same_fit(columns: int, block: int) -> None:
    matrix = features(columns)[:IMAGES].contiguous()
    targets = encode_labels(labels(5)[:IMAGES])
    (whole,) = fit_ridge([matrix], targets, 1.0)
    parts = fit_ridge_in_blocks(lambda i, j: matrix[i:j], columns, block, targets, 1.0)
    torch.testing.assert_close(parts.weights, whole.weights, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(parts.train_scores, whole.train_scores, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("block", [7, 90])
@pytest.mark.parametrize("columns", [1, 33, IMAGES - 1])
def test_fewer_features_than_images_are_fitted_without_rounding(columns: int, block: int) -> None:
    """Their kernels are singular: float32's rounding would outweigh the penalty."""
    matrix = 30 * features(columns)[:IMAGES].contiguous()
    targets = encode_labels(labels(5)[:IMAGES])
    reference = RidgeClassifier(alpha=1.0).fit(matrix.double().numpy(), labels(5)[:IMAGES].numpy())
    expected = torch.from_numpy(reference.decision_function(matrix.double().numpy()))
    (whole,) = fit_ridge([matrix], targets, 1.0)
    parts = fit_ridge_in_blocks(lambda i, j: matrix[i:j], columns, block, targets, 1.0)
    for fit in (whole, parts):
        torch.testing.assert_close(fit.train_scores, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(scores(fit, matrix), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 90, 101])
def test_symmetric_products_are_whole_products(rows: int) -> None:
    matrix = features(70, rows)
    kernel = matrix.new_empty(rows, rows)
    gram(matrix, kernel)
    torch.testing.assert_close(kernel, matrix @ matrix.T)
    assert torch.equal(kernel, kernel.T)


@pytest.mark.parametrize("onednn", [False, True])
def test_either_library_gives_the_product(onednn: bool) -> None:
    if onednn and not has_onednn():
        pytest.skip("this build of PyTorch has no oneDNN")
    left, right = features(70), features(70, 31, seed=2)
    product = times_transposed(left, right, onednn=onednn)
    torch.testing.assert_close(product, left @ right.T)


def test_features_that_are_not_finite_never_give_finite_scores() -> None:
    for columns in (30, 300):
        for value in (float("nan"), float("inf")):
            matrix = features(columns)[:IMAGES]
            matrix[5, 3] = value
            (fit,) = fit_ridge([matrix], encode_labels(labels(4)[:IMAGES]), 1.0)
            assert not fit.train_scores.isfinite().all()


def test_published_networks_predict_as_with_scikit_learn_on_real_images() -> None:
    """At least 99.8 % of predictions equal, mean accuracies within 0.05 points."""
    protocol = digits_protocol(
        input_shape=(3, 48, 48), train_images=100, validation_images=400, trials=1
    )
    dataset = digits(protocol)
    architectures = list(islice(_small_published_networks(), 15))
    equal, ours, theirs = [], [], []
    for architecture, outcome in zip(architectures, evaluate(architectures, protocol), strict=True):
        (result,) = outcome.trials
        right = right_answers(result.correct_bits, 400)
        network = build_network(architecture, 0, protocol)
        reference = RidgeClassifier(alpha=1.0).fit(
            network(dataset.train_images).double().numpy(), dataset.train_labels.numpy()
        )
        predicted = reference.predict(network(dataset.validation_images).double().numpy())
        expected = predicted == dataset.validation_labels.numpy()
        equal.append((right == expected).mean())
        ours.append(result.accuracy)
        theirs.append(expected.mean())
    assert np.mean(equal) >= 0.998
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.0005


def _small_published_networks() -> Iterator[Architecture]:
    space = random_cnn_2025()
    for index in range(7_001, len(space), 1_237):
        architecture = space.architecture(index)
        fits = architecture.output_shape((3, 48, 48)) is not None
        if fits and architecture.measures((3, 48, 48)).ratio <= 1:
            yield architecture
