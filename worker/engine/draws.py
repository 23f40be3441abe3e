"""Weights for a GPU: drawn on the CPU by many threads, sent there by one copy."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from worker.engine.layers import Weights, draw_layer
from worker.engine.tree import Node

MAX_THREADS = 8  # more would wait for Python's lock
ALIGNMENT = 64  # elements: tensors begin where CUDA's libraries can load whole vectors


def draw_on_device(
    nodes: Sequence[Node], device: torch.device, threads: int
) -> dict[Node, Weights]:
    """Returns float32 weight (channels, channels_in, k, k) and bias (channels,) of every node.

    They are those of ``draw_layer``, whatever ``threads`` is. The copy leaves from pinned memory,
    so nothing waits for it.
    """
    drawn = list(_pool(min(threads, MAX_THREADS)).map(_draw, nodes))
    parts = [part for weights in drawn for part in weights]
    starts, total = _places(parts)
    pinned = torch.empty(total, pin_memory=device.type == "cuda")
    for start, part in zip(starts, parts, strict=True):
        pinned[start : start + part.numel()].copy_(part.flatten())
    sent = pinned.to(device, non_blocking=True)
    views = [
        sent[start : start + part.numel()].view(part.shape)
        for start, part in zip(starts, parts, strict=True)
    ]
    return dict(zip(nodes, zip(views[::2], views[1::2], strict=True), strict=True))


def _draw(node: Node) -> Weights:
    return draw_layer(node.drawn.layer, node.input_shape[0], node.drawn.seed)


def _places(parts: Sequence[Tensor]) -> tuple[list[int], int]:
    starts, end = [], 0
    for part in parts:
        starts.append(end)
        end += -(-part.numel() // ALIGNMENT) * ALIGNMENT
    return starts, end


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "draws")
