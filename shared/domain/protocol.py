"""What one sweep measures, exactly: images, weights, gates, trials and timing. Presets included."""

import math
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.domain.architecture import InputShape
from shared.domain.names import Name

Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
MAX_TRIALS = 1000
MAX_IMAGE_BYTES = 64 * 2**30  # as float32


class WeightSharing(StrEnum):
    """Which networks share the random weights of a layer.

    ``siblings``: networks that differ only in their last layer share all other layers.
    ``prefix``: networks share a layer when it and all layers before it are the same.
    ``none``: every network has its own weights, as published.
    """

    SIBLINGS = "siblings"
    PREFIX = "prefix"
    NONE = "none"


class Order(StrEnum):
    """The order in which groups are handed out."""

    RANDOM = "random"  # so that early results are informative
    GRID = "grid"


class DeviceClass(StrEnum):
    ANY = "any"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Arithmetic of the timed network."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"


class MemoryFormat(StrEnum):
    CONTIGUOUS = "contiguous"
    CHANNELS_LAST = "channels_last"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gates(_Part):
    """Bounds that a network must keep; None asks nothing.

    The ratio range is checked before anything runs (the job becomes ``invalid``), the accuracy
    after each trial of the protocol (``rejected``); trials that are added later reject no network.
    The throughput counts when results are read, since it depends on the device. Only where
    ``Timing.device_model`` names one does it reject.
    """

    min_accuracy: Fraction | None = None
    min_throughput: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Images per second at the timing's batch size. Results hide slower networks "
        "by default; with timing.device_model these are rejected.",
    )
    min_ratio: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    max_ratio: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=1.0, description="Largest output / input elements."
    )

    @model_validator(mode="after")
    def _range(self) -> "Gates":
        if self.min_ratio and self.max_ratio and self.min_ratio > self.max_ratio:
            raise ValueError("min_ratio: is larger than max_ratio, so nothing could pass")
        return self


class TimingRepeat(StrEnum):
    """Which trials of an architecture are timed: its weights do not change its speed."""

    ONCE = "once"
    EACH_TRIAL = "each_trial"


class Timing(_Part):
    """How throughput is measured on the unshared network."""

    repeat: TimingRepeat = Field(
        default=TimingRepeat.ONCE,
        description="Time an architecture once on a device, or anew in each of its trials.",
    )
    batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 32
    device_model: Name | None = Field(
        default=None,
        description="Only workers with this device model time networks, such as 'NVIDIA H100 80GB "
        "HBM3'; others leave the timing to them. By default every worker times what it probes.",
    )
    max_s: Annotated[float, Field(strict=True, gt=0, le=600)] = Field(
        default=0.5, description="Time limit of the repeated runs of one network."
    )
    max_spread: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=0.03, description="Runs repeat until their relative spread is below this."
    )
    precision: Precision = Precision.FLOAT32
    memory_format: MemoryFormat = MemoryFormat.CONTIGUOUS
    screening: bool = Field(
        default=True,
        strict=True,
        description="Rule the hopeless out by summed layer times; near the gate always measure.",
    )

    @model_validator(mode="after")
    def _one_device(self) -> "Timing":
        if self.device_model is not None and self.repeat is TimingRepeat.EACH_TRIAL:
            raise ValueError(
                "repeat: each_trial cannot go with device_model, whose workers time networks of "
                "which others made the trials"
            )
        return self


class Weights(_Part):
    """Where random weights come from: PyTorch's default initialisation under a derived seed."""

    scope: WeightSharing = WeightSharing.SIBLINGS


class Protocol(_Part):
    """Everything that decides what a trial measures. A sweep keeps one and never changes it."""

    dataset: DatasetName
    train_images: Annotated[int, Field(strict=True, ge=2, le=20_000)] = 500
    validation_images: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 500
    input_shape: InputShape = (3, 96, 96)
    trials: Annotated[int, Field(strict=True, ge=1, le=MAX_TRIALS)] = 5
    ridge_alpha: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 1.0
    gates: Gates = Gates()
    timing: Timing | None = Field(
        default=Timing(), description="None leaves throughput unmeasured."
    )
    weights: Weights = Weights()
    device_class: DeviceClass = DeviceClass.ANY
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    order: Order = Order.RANDOM

    @model_validator(mode="after")
    def _images_bounded(self) -> "Protocol":
        images = self.train_images + self.validation_images
        if 4 * images * math.prod(self.input_shape) > MAX_IMAGE_BYTES:
            raise ValueError(
                f"input_shape: {images:,} images of {self.input_shape} take more than "
                f"{MAX_IMAGE_BYTES // 2**30} GiB; take smaller or fewer ones"
            )
        return self

    @property
    def timing_model(self) -> str | None:
        """The device model that must time every network; None where any may."""
        return self.timing.device_model if self.timing else None

    @model_validator(mode="after")
    def _timed_if_gated(self) -> "Protocol":
        if self.gates.min_throughput is not None and self.timing is None:
            raise ValueError("timing: cannot be left out while gates.min_throughput asks for it")
        return self


def random_cnn_2025() -> Protocol:
    """The published protocol, except that siblings share their first layers.

    Set ``weights.scope`` to ``none`` to draw the weights of each network by themselves, as the
    article did. Source: the random-CNN experiment of 2025-06-17.
    """
    return Protocol(dataset="stl10", gates=Gates(min_accuracy=0.25, min_throughput=200))


def quick() -> Protocol:
    """A protocol for a first look on any machine, on images that need no download."""
    return Protocol(
        dataset="digits",
        train_images=300,
        validation_images=300,
        input_shape=(1, 32, 32),
        trials=2,
        gates=Gates(min_accuracy=0.8),
        timing=Timing(max_s=0.05),
    )


PROTOCOL_PRESETS = {"random-cnn-2025": random_cnn_2025, "quick": quick}
