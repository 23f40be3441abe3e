"""The messages on the queue: one model each, which sender and receiver use."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.ids import MAX_ID

EVALUATE_GROUP = "convsweep.evaluate_group"
TRAIN_NETWORK = "convsweep.train_network"


class GroupHint(BaseModel):
    """A group of a sweep may have pending jobs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sweep_id: Annotated[int, Field(ge=1, le=MAX_ID)]
    group: Annotated[int, Field(ge=0, lt=2**31)]


class TrainingHint(BaseModel):
    """A training may be pending."""

    model_config = ConfigDict(extra="forbid", strict=True)

    training_id: Annotated[int, Field(ge=1, le=MAX_ID)]
