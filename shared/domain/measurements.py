"""What a worker reports: one result per trial, one outcome per job, and where it was measured."""

from dataclasses import dataclass, field
from enum import StrEnum

from shared.domain.status import JobStatus


class Reason(StrEnum):
    """Why a job ended other than completed. Machine-readable and stable."""

    INVALID_SHAPE = "invalid_shape"
    RATIO_ABOVE_MAXIMUM = "ratio_above_maximum"
    RATIO_BELOW_MINIMUM = "ratio_below_minimum"
    ACCURACY_BELOW_MINIMUM = "accuracy_below_minimum"
    THROUGHPUT_BELOW_MINIMUM = "throughput_below_minimum"
    NON_FINITE = "non_finite"
    OUT_OF_MEMORY = "out_of_memory"
    ENGINE_ERROR = "engine_error"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"


class ThroughputSource(StrEnum):
    """How a throughput came about.

    The whole network ran, issued layer by layer (``measured``) or as a replayed CUDA graph
    (``replayed``); or cached layer times were summed up (``screened``).
    """

    MEASURED = "measured"
    REPLAYED = "replayed"
    SCREENED = "screened"


class ThroughputKind(StrEnum):
    """Whether a device model timed a network, or its throughput there follows from another's."""

    MEASURED = "measured"
    PREDICTED = "predicted"


class WantedReason(StrEnum):
    """Why a device model has to time a network before its job completes."""

    DRIFT = "drift"  # the device changed its speed around the timing before
    THROTTLED = "throttled"  # the device was too slow to be timed
    BRIDGE = "bridge"  # to compare device models


class Invalidation(StrEnum):
    """Why a timing does not count."""

    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """The state of a device at one moment; None for what its driver does not say."""

    clock_mhz: float | None = None  # of the SMs, or the mean of a processor's cores
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    load: float | None = None  # of a processor: processes that ran or waited in the last minute


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a timing was made on and in which state that was, before and after."""

    unit: str  # a GPU's UUID, or the name of the machine whose processor it is
    driver: str | None
    default_clock_mhz: float | None
    before: DeviceReading
    after: DeviceReading


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images per second of the unshared network, with nothing else on the device.

    ``spread`` is the half-width of the middle half of the repeated runs relative to their median
    (0.03 is 3 %); ``runs`` counts them. Screened figures carry ``runs == 0``.
    """

    images_per_s: float
    spread: float
    runs: int
    source: ThroughputSource
    conditions: Conditions | None = None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One evaluation of one architecture with one draw of weights.

    Accuracies are fractions in [0, 1]. ``correct_bits`` holds one bit per validation image in
    dataset order, most significant bit first, set where the prediction was right, padded with
    zeros to whole bytes. ``weights_seed`` is the 63-bit seed of the last layer's draw. ``probe_s``
    is the trial's share of its group's walk, fits included; ``timing_s`` what its timing took, None
    where there was none.
    """

    trial: int
    accuracy: float
    train_accuracy: float
    fit_s: float
    weights_seed: int
    correct_bits: bytes
    throughput: Throughput | None = None
    probe_s: float = 0.0
    timing_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended. ``trials`` holds what was measured, also for a rejected job.

    ``timing`` is one without a trial: of a network whose trials another device model made.
    ``throttled`` is whether the device was too slow to time the network, which is left to do.
    """

    status: JobStatus
    reason: Reason | None = None
    error: str | None = None
    trials: tuple[TrialResult, ...] = field(default=())
    timing: Throughput | None = None
    throttled: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """Where results were made: enough to know what may be compared with what."""

    code_version: str
    device_class: str  # "cpu" or "cuda"
    device: str  # the model as the system names it
    dataset: str
    dataset_hash: str  # sha256 of images and labels as used
    versions: dict[str, str]  # python, torch, torchvision, scikit-learn, cuda, cudnn
