"""The walk: one trial of many networks as a tree of layers, in chunks of images, under a budget.

Every node is one drawn layer. A subtree is walked depth first for one chunk of images after the
other, so activations stay in the caches and are freed on the way back; only the features of its
leaves are kept for all images until their probes are fitted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from shared.space import LayerConfig
from worker.engine.layers import draw_layer
from worker.engine.ridge import Targets, fit_ridge, predict, scores

FLOAT_BYTES = 4
CPU_CHUNK_BYTES = 8 * 2**20  # input and output of the largest layer of a chunk: about the L3 cache
CUDA_CHUNK_SHARE = 8  # a chunk on CUDA takes at most this part of the budget

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh_,
    "none": lambda x: x,
}

Shape = tuple[int, int, int]


class DrawnLayer(NamedTuple):
    """A layer of one trial: equal ones after equal ones are computed once."""

    layer: LayerConfig
    seed: int


@dataclass
class Node:
    """A drawn layer, what follows it, and whose networks end here."""

    drawn: DrawnLayer
    input_shape: Shape
    output_shape: Shape
    children: dict[DrawnLayer, "Node"] = field(default_factory=dict)
    members: list[int] = field(default_factory=list)
    weights: tuple[Tensor, Tensor] | None = None

    @property
    def features(self) -> int:
        channels, height, width = self.output_shape
        return channels * height * width

    def subtree(self) -> Iterable["Node"]:
        """Yields this node and everything under it, depth first."""
        yield self
        for child in self.children.values():
            yield from child.subtree()


class Prediction(NamedTuple):
    """Predicted labels int64 (n,) of all images, training images first, and whether all scores
    were finite, a bool tensor (); both still on the device."""

    labels: Tensor
    finite: Tensor
    fit_s: float


Source = Callable[[int, int], Tensor]


def grow_tree(
    networks: Sequence[tuple[int, Sequence[DrawnLayer], Sequence[Shape]]], input_shape: Shape
) -> list[Node]:
    """Returns the roots of the tree of ``networks``: (member, layers, shape after each layer)."""
    roots: dict[DrawnLayer, Node] = {}
    for member, layers, shapes in networks:
        children, before = roots, input_shape
        for drawn, shape in zip(layers, shapes, strict=True):
            node = children.setdefault(drawn, Node(drawn, before, shape))
            children, before = node.children, shape
        node.members.append(member)
    return list(roots.values())


@dataclass
class Walk:
    """One trial's walk over a tree. ``images`` float32 (n, C, H, W) on the device, training first.

    ``budget`` bounds, in bytes, the features, kept activations and chunks alive at one time.
    """

    images: Tensor
    train_images: int
    targets: Targets
    alpha: float
    budget: int
    on_progress: Callable[[], None]
    predictions: dict[int, Prediction] = field(default_factory=dict)

    def run(self, roots: Sequence[Node]) -> dict[int, Prediction]:
        """Returns the prediction of every member of the tree.

        Raises:
            torch.OutOfMemoryError: the device has less than the budget says.
        """
        self._visit(roots, lambda start, stop: self.images[start:stop], True, self.budget)
        return self.predictions

    def _visit(self, nodes: Sequence[Node], source: Source, held: bool, budget: int) -> None:
        batches = list(self._batches(nodes, budget))
        kept = len(self.images) * _bytes(nodes[0].input_shape)
        if len(batches) > 1 and not held and kept <= budget // 2:
            activation = self._keep(nodes[0].input_shape, source)
            return self._visit(nodes, lambda i, j: activation[i:j], True, budget - kept)
        for batch in batches:
            if self._feature_bytes(batch) <= budget or not batch[0].children:
                self._stream(batch, source, budget)
            else:
                self._descend(batch[0], source, budget)
        return None

    def _batches(self, nodes: Sequence[Node], budget: int) -> Iterable[list[Node]]:
        batch: list[Node] = []
        for node in nodes:
            if batch and self._feature_bytes([*batch, node]) > budget:
                yield batch
                batch = []
            batch.append(node)
        yield batch

    def _feature_bytes(self, nodes: Iterable[Node]) -> int:
        leaves = (leaf for node in nodes for leaf in node.subtree() if leaf.members)
        return sum(len(self.images) * _bytes(leaf.output_shape) for leaf in leaves)

    def _descend(self, node: Node, source: Source, budget: int) -> None:
        if node.members:
            own = Node(node.drawn, node.input_shape, node.output_shape, {}, node.members)
            self._stream([own], source, budget)
        after = lambda start, stop: self._apply(node, source(start, stop))  # noqa: E731
        self._visit(list(node.children.values()), after, False, budget)
        _forget(node)

    def _keep(self, shape: Shape, source: Source) -> Tensor:
        kept = self._empty(shape)
        for start, stop in self._chunks(_bytes(shape), self.budget):
            kept[start:stop] = source(start, stop)
            self.on_progress()
        return kept

    def _empty(self, shape: Shape) -> Tensor:
        return torch.empty(
            len(self.images), *shape, device=self.images.device, memory_format=torch.channels_last
        )

    def _stream(self, nodes: Sequence[Node], source: Source, budget: int) -> None:
        leaves = [leaf for node in nodes for leaf in node.subtree() if leaf.members]
        features = {
            id(leaf): torch.empty(len(self.images), leaf.features, device=self.images.device)
            for leaf in leaves
        }
        widest = max(
            _bytes(node.input_shape) + _bytes(node.output_shape)
            for root in nodes
            for node in root.subtree()
        )
        for start, stop in self._chunks(widest, budget):
            chunk = source(start, stop)
            for node in nodes:
                self._forward(node, chunk, features, start, stop)
            self.on_progress()
        for node in nodes:
            _forget(node)
        self._probe(leaves, features)

    def _chunks(self, image_bytes: int, budget: int) -> Iterable[tuple[int, int]]:
        cuda = self.images.device.type == "cuda"
        room = budget // CUDA_CHUNK_SHARE if cuda else min(CPU_CHUNK_BYTES, budget)
        size = max(1, room // image_bytes)
        total = len(self.images)
        return ((start, min(start + size, total)) for start in range(0, total, size))

    def _forward(
        self, node: Node, chunk: Tensor, features: dict[int, Tensor], start: int, stop: int
    ) -> None:
        output = self._apply(node, chunk)
        if node.members:
            features[id(node)][start:stop] = output.permute(0, 2, 3, 1).flatten(1)
        for child in node.children.values():
            self._forward(child, output, features, start, stop)

    def _apply(self, node: Node, chunk: Tensor) -> Tensor:
        layer = node.drawn.layer
        if node.weights is None:
            weight, bias = draw_layer(layer, node.input_shape[0], node.drawn.seed)
            device = self.images.device
            node.weights = (
                weight.to(device, memory_format=torch.channels_last, non_blocking=True),
                bias.to(device, non_blocking=True),
            )
        output = functional.conv2d(
            chunk, *node.weights, layer.stride, layer.padding, layer.dilation
        )
        return _ACTIVATIONS[layer.activation](output)

    def _probe(self, leaves: Sequence[Node], features: dict[int, Tensor]) -> None:
        for leaf in leaves:
            matrix = features.pop(id(leaf))
            (fit,) = fit_ridge([matrix[: self.train_images]], self.targets, self.alpha)
            decision = scores(fit, matrix)
            prediction = Prediction(predict(fit, decision), decision.isfinite().all(), 0.0)
            for member in leaf.members:
                self.predictions[member] = prediction
            self.on_progress()


def _bytes(shape: Shape) -> int:
    channels, height, width = shape
    return channels * height * width * FLOAT_BYTES


def _forget(node: Node) -> None:
    for part in node.subtree():
        part.weights = None
