"""The messages on the queue: one model each, which sender and receiver use."""

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

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


class _Headers(BaseModel):
    """The headers that Celery acts on, with the values that they have in our messages."""

    task: Literal["convsweep.evaluate_group", "convsweep.train_network"]
    id: Annotated[str, Field(min_length=1, max_length=100)]
    compression: None = None
    eta: None = None
    expires: None = None
    retries: Literal[0] = 0
    timelimit: tuple[None, None] = (None, None)


class _Properties(BaseModel):
    delivery_tag: str
    delivery_info: dict[str, Any]
    body_encoding: Literal["base64", "utf-8"]


class _Envelope(BaseModel):
    """A message as it is in a Redis list."""

    body: str
    content_type: Annotated[Literal["application/json"], Field(alias="content-type")]
    content_encoding: Annotated[Literal["utf-8"], Field(alias="content-encoding")]
    headers: _Headers
    properties: _Properties


_HINTS: dict[str, type[GroupHint | TrainingHint]] = {
    EVALUATE_GROUP: GroupHint,
    TRAIN_NETWORK: TrainingHint,
}
_BODY = TypeAdapter(tuple[tuple[()], dict[str, Any], dict[str, Any]])  # args, kwargs, callbacks


def read_message(raw: bytes) -> GroupHint | TrainingHint:
    """Returns the hint that a message in the queue contains.

    Raises:
        ValueError: it is no message of this service.
    """
    envelope = _Envelope.model_validate_json(raw)
    body = envelope.body.encode()
    if envelope.properties.body_encoding == "base64":
        body = base64.b64decode(body, validate=True)
    _, fields, callbacks = _BODY.validate_json(body)
    if any(callbacks.values()):
        raise ValueError("a hint has no callbacks")
    return _HINTS[envelope.headers.task].model_validate(fields)
