"""What one training does, exactly: width, epochs, optimizer, augmentation, arithmetic, seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.domain.architecture import Architecture
from shared.domain.protocol import MemoryFormat, Precision

MAX_EPOCHS = 10_000
MAX_REPEATS = 100
AUGMENTABLE_CHANNELS = (1, 3)  # of images that TrivialAugmentWide can change

Positive = Annotated[float, Field(strict=True, gt=0, le=1e3, allow_inf_nan=False)]


class Augment(StrEnum):
    """What happens to a training image before the network sees it."""

    NONE = "none"
    TRIVIAL_WIDE = "trivial_wide"  # TrivialAugmentWide, as published


class Recipe(BaseModel):
    """Everything that decides how one network is trained. A training never changes it.

    The defaults are the published ones; what the article leaves open (weight decay, length of the
    warm-up) is PyTorch's default or said here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Annotated[int, Field(strict=True, ge=1, le=8192)] | None = Field(
        default=None, description="Channels of every layer; as searched where null."
    )
    epochs: Annotated[int, Field(strict=True, ge=1, le=MAX_EPOCHS)] = 100
    batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 64
    learning_rate: Positive = Field(default=3e-4, description="AdamW's, at its greatest.")
    weight_decay: Annotated[float, Field(strict=True, ge=0, le=1e3, allow_inf_nan=False)] = 0.01
    warmup_epochs: Annotated[int, Field(strict=True, ge=0, le=MAX_EPOCHS)] = Field(
        default=5,
        description="Epochs in which the rate rises linearly, before it falls as a cosine. "
        "Default: 5, or a twentieth of fewer than 100 epochs.",
    )
    augment: Augment = Augment.TRIVIAL_WIDE
    train_images: Annotated[int, Field(strict=True, ge=2)] | None = Field(
        default=None, description="Number of images, classes in turn; null uses the whole split."
    )
    validation_images: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        default=None, description="As train_images, of the test split."
    )
    precision: Precision = Field(
        default=Precision.FLOAT32, description="bfloat16 is mixed: weights stay float32."
    )
    memory_format: MemoryFormat = MemoryFormat.CHANNELS_LAST
    share_device: bool = Field(
        default=False,
        strict=True,
        description="Several trainings may use a device at once; then no images/s are reported.",
    )
    checkpoint_epochs: Annotated[int, Field(strict=True, ge=1, le=MAX_EPOCHS)] = 5
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0

    @model_validator(mode="before")
    @classmethod
    def _short_warm_up(cls, given: Any) -> Any:
        """Gives short trainings a warm-up of a twentieth unless they ask for one."""
        epochs = given.get("epochs") if isinstance(given, dict) else None
        if isinstance(epochs, int) and "warmup_epochs" not in given:
            return given | {"warmup_epochs": min(5, epochs // 20)}
        return given

    @model_validator(mode="after")
    def _some_time_at_full_rate(self) -> "Recipe":
        if self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs: must be fewer than epochs")
        return self

    def widen(self, architecture: Architecture) -> Architecture:
        """Returns the network to train: the architecture at this recipe's channels."""
        if self.channels is None:
            return architecture
        layers = (layer._replace(channels=self.channels) for layer in architecture.layers)
        return Architecture(tuple(layers))


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch measured; epochs count from 1. Accuracies are fractions.

    Training figures are over the epoch's augmented images, as they were seen. ``seconds`` covers
    training and validation; ``images_per_s`` is the rate of training only, None where the device
    was shared. ``device`` is the model of what measured it.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float  # of the last step
    seconds: float
    images_per_s: float | None
    device: str | None = None  # not known of epochs that older versions measured


def best_epoch(results: Sequence[EpochResult]) -> EpochResult:
    """Returns the epoch of the greatest validation accuracy, the first of several."""
    return max(results, key=lambda epoch: (epoch.validation_accuracy, -epoch.epoch))
