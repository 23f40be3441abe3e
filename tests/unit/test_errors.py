"""Domain errors: stable codes, and a status in the API for each of them."""

from collections.abc import Iterator

import pytest

from api.errors import STATUS_BY_ERROR
from shared.domain import errors
from shared.domain.errors import ConvsweepError


def all_errors(root: type[ConvsweepError] = ConvsweepError) -> Iterator[type[ConvsweepError]]:
    """Yields the domain's errors; those of a client of the API never reach the API."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from all_errors(child)


# Codes are part of the API: clients compare them. Add lines here, never change one.
CODES = {
    errors.ConvsweepError: "error",
    errors.InvalidInputError: "invalid_input",
    errors.UnknownFilterError: "unknown_filter",
    errors.InvalidFilterError: "invalid_filter",
    errors.InvalidPageTokenError: "invalid_page_token",
    errors.NotFoundError: "not_found",
    errors.SweepNotFoundError: "sweep_not_found",
    errors.JobNotFoundError: "job_not_found",
    errors.TrainingNotFoundError: "training_not_found",
    errors.WeightsMissingError: "weights_missing",
    errors.KeyNotFoundError: "key_not_found",
    errors.UnauthenticatedError: "unauthenticated",
    errors.KeyMissingError: "key_missing",
    errors.KeyInvalidError: "key_invalid",
    errors.KeyExpiredError: "key_expired",
    errors.KeyRevokedError: "key_revoked",
    errors.ScopeMissingError: "scope_missing",
    errors.ConflictError: "conflict",
    errors.IllegalTransitionError: "illegal_transition",
    errors.IdempotencyKeyReusedError: "idempotency_key_reused",
    errors.NoResultsError: "no_results",
    errors.NotComparableError: "not_comparable",
    errors.StaleLeaseError: "stale_lease",
    errors.DatasetError: "dataset_unusable",
    errors.DatasetMissingError: "dataset_missing",
    errors.DatasetCorruptError: "dataset_corrupt",
    errors.DatasetTooSmallError: "dataset_too_small",
    errors.DatasetMismatchError: "dataset_mismatch",
    errors.EngineError: "engine_failed",
    errors.NonFiniteError: "non_finite",
    errors.CheckpointError: "checkpoint_unusable",
    errors.DevicePoisonedError: "device_poisoned",
    errors.DeviceUnavailableError: "device_unavailable",
    errors.UnavailableError: "unavailable",
    errors.TooLargeError: "too_large",
    errors.UnsupportedBodyError: "unsupported_media_type",
    errors.BusyError: "busy",
}


@pytest.mark.parametrize(("error", "code"), list(CODES.items()))
def test_codes_never_change(error: type[ConvsweepError], code: str) -> None:
    assert error.code == code


def test_the_code_of_every_error_is_written_down() -> None:
    assert set(CODES) == set(all_errors())


def test_every_error_has_its_own_code() -> None:
    kinds = list(all_errors())
    assert all("code" in vars(error) for error in kinds)
    assert len({error.code for error in kinds}) == len(kinds)


@pytest.mark.parametrize("error", list(all_errors()))
def test_api_has_a_status_for_every_error(error: type[ConvsweepError]) -> None:
    assert 400 <= STATUS_BY_ERROR[error] < 600


def test_errors_keep_message_and_field() -> None:
    error = errors.InvalidInputError("No.", field="space")
    assert (str(error), error.message, error.field) == ("No.", "No.", "space")
