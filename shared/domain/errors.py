"""One tree of domain errors. Each class carries a stable, machine-readable code and no HTTP."""


class ConvsweepError(Exception):
    """Anything that goes wrong in the domain's own words."""

    code = "error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidInputError(ConvsweepError):
    """An input value cannot be used; ``field`` names it."""

    code = "invalid_input"


class UnknownFilterError(InvalidInputError):
    """A filter names a field that is not there; the message lists those that are."""

    code = "unknown_filter"


class InvalidFilterError(InvalidInputError):
    """A filter's value is not one of its field's; the message says what the field takes."""

    code = "invalid_filter"


class InvalidPageTokenError(InvalidInputError):
    """A page token is damaged, or belongs to another listing."""

    code = "invalid_page_token"


class TooLargeError(InvalidInputError):
    """A request needs more memory than one request may use."""

    code = "too_large"


class UnsupportedBodyError(ConvsweepError):
    """The body of a request is not sent as JSON."""

    code = "unsupported_media_type"


class NotFoundError(ConvsweepError):
    code = "not_found"


class SweepNotFoundError(NotFoundError):
    code = "sweep_not_found"


class JobNotFoundError(NotFoundError):
    code = "job_not_found"


class TrainingNotFoundError(NotFoundError):
    code = "training_not_found"


class WeightsMissingError(NotFoundError):
    """A training has no weights that can be read here; the message says why."""

    code = "weights_missing"


class KeyNotFoundError(NotFoundError):
    code = "key_not_found"


class UnauthenticatedError(ConvsweepError):
    """The request has no valid key; the message says what it needs."""

    code = "unauthenticated"


class KeyMissingError(UnauthenticatedError):
    code = "key_missing"


class KeyInvalidError(UnauthenticatedError):
    code = "key_invalid"


class KeyExpiredError(UnauthenticatedError):
    code = "key_expired"


class KeyRevokedError(UnauthenticatedError):
    code = "key_revoked"


class ScopeMissingError(ConvsweepError):
    """The key is good, but not for this."""

    code = "scope_missing"


class ConflictError(ConvsweepError):
    code = "conflict"


class IllegalTransitionError(ConflictError):
    """A state was asked to change in a way its machine does not allow."""

    code = "illegal_transition"


class IdempotencyKeyReusedError(ConflictError):
    """An idempotency key came back with another request than the first time."""

    code = "idempotency_key_reused"


class NoResultsError(ConflictError):
    """Too little has been measured to say anything; the message says what is missing."""

    code = "no_results"


class NotComparableError(ConflictError):
    """Two results were measured on different images, so they cannot be set side by side."""

    code = "not_comparable"


class StaleLeaseError(ConflictError):
    """The lease token is no longer the job's: another claim or a cancellation took over."""

    code = "stale_lease"


class DatasetError(ConvsweepError):
    """A dataset cannot serve a protocol on this machine; the message says what to do."""

    code = "dataset_unusable"


class DatasetMissingError(DatasetError):
    code = "dataset_missing"


class DatasetCorruptError(DatasetError):
    code = "dataset_corrupt"


class DatasetTooSmallError(DatasetError):
    code = "dataset_too_small"


class DatasetMismatchError(DatasetError):
    """A dataset's content is not what the sweep's earlier trials were measured on."""

    code = "dataset_mismatch"


class EngineError(ConvsweepError):
    """One architecture could not be evaluated; the message names it, the trial and the cause."""

    code = "engine_failed"


class NonFiniteError(EngineError):
    """NaN or infinity where a number belongs. Never scored."""

    code = "non_finite"


class CheckpointError(ConvsweepError):
    """A checkpoint is damaged or belongs to another training."""

    code = "checkpoint_unusable"


class DevicePoisonedError(ConvsweepError):
    """The device context is damaged; the process must end and report nothing more."""

    code = "device_poisoned"


class DeviceUnavailableError(ConvsweepError):
    """The device that was asked for is not there."""

    code = "device_unavailable"


class UnavailableError(ConvsweepError):
    """A server that the operation needs cannot be reached now; trying again later is safe."""

    code = "unavailable"


class BusyError(ConvsweepError):
    """Too much of this kind is under way, of this client or of all; trying again later is safe."""

    code = "busy"
