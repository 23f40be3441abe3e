"""Rebuilding the network of one trial and packing its weights."""

import io
from typing import Any

import torch

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.errors import InvalidInputError
from shared.domain.protocol import Protocol
from worker.engine.layers import build_network


def pack_weights(job: dict[str, Any], trial: int) -> memoryview:
    """Returns a file of ``torch.save`` with the ``state_dict`` of a job's network for ``trial``.

    ``job`` is what the API says of the job: its ``layers`` and the sweep's ``protocol``.

    Raises:
        InvalidInputError: the job has no such trial, or its network cannot be built.
    """
    protocol = Protocol.model_validate(job["protocol"])
    if trial >= job["trials_target"]:
        raise InvalidInputError(
            f"Job {job['id']} has trials 0 to {job['trials_target'] - 1}, not {trial}.",
            field="trial",
        )
    architecture = Architecture(tuple(LayerConfig(**layer) for layer in job["layers"]))
    if architecture.output_shape(protocol.input_shape) is None:
        raise InvalidInputError(f"Job {job['id']} is invalid: a kernel does not fit its input.")
    file = io.BytesIO()
    torch.save(build_network(architecture, trial, protocol).state_dict(), file)
    return file.getbuffer()
