"""The walk: one trial of many networks as a tree of layers, in chunks of images, under a budget.

Features of training images are kept until the probe is fitted; validation images are scored as
they pass.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from worker.engine.cpu.lanes import Lanes
from worker.engine.cpu.tuning import CpuTuning
from worker.engine.forward import Forward, Sink, as_rows, memory_format
from worker.engine.ridge.blocks import fit_ridge_in_blocks
from worker.engine.ridge.fit import Fit, Targets, fit_ridge, predict, scores
from worker.engine.stopwatch import Stopwatch
from worker.engine.tree import Node, image_bytes, leaves

CHUNK_SHARE = 4  # and never take more than this part of the budget
SYSTEM_BYTES = 40  # per element of a dual system while it is solved: float32, float64 and copies

Source = Callable[[int, int], Tensor]


class Prediction(NamedTuple):
    """What one trial of one network says of all images, training images first.

    ``labels`` int64 (n,) and ``finite``, bool (), whether all scores were, lie on the device.
    """

    labels: Tensor
    finite: Tensor
    fit: Stopwatch
    fitted_together: int


@dataclass
class Walk:
    """One trial's walk. ``images`` float32 (n, C, H, W) on the device, training images first.

    ``budget`` bounds, in bytes, the features, kept activations and chunks alive at one time.
    ``tuning`` counts only where the device is the CPU.
    """

    images: Tensor
    targets: Targets
    alpha: float
    budget: int
    on_progress: Callable[[], None]
    tuning: CpuTuning
    predictions: dict[int, Prediction] = field(default_factory=dict)
    _lanes: Lanes = field(init=False)
    _layers: Forward = field(init=False)

    def __post_init__(self) -> None:
        self._lanes = Lanes(self.images.device, self.tuning.threads)

    def run(self, roots: Sequence[Node]) -> dict[int, Prediction]:
        """Returns the prediction of every member of the tree; nothing waits for the device.

        Raises:
            torch.OutOfMemoryError: the device has less than the budget says.
        """
        room = self.budget // CHUNK_SHARE
        self._layers = Forward(
            roots, self.images.device,
            lanes=self._lanes.count, room=room, slowdown=self.tuning.spectral_slowdown,
        )  # fmt: skip
        with self._lanes:
            self._visit(roots, lambda start, stop: self.images[start:stop], True, self.budget)
        return self.predictions

    def _visit(self, nodes: Sequence[Node], source: Source, held: bool, budget: int) -> None:
        """Evaluates subtrees that are all fed by ``source``, as many at a time as fit."""
        batches = list(self._batches(nodes, budget))
        kept = len(self.images) * image_bytes(nodes[0].input_shape)
        if len(batches) > 1 and not held and kept <= budget // 2:
            activation = self._keep(nodes[0], source, budget)
            return self._visit(nodes, lambda i, j: activation[i:j], True, budget - kept)
        for batch in batches:
            if self._fits(batch, budget):
                self._stream(batch, source, budget)
            else:
                self._descend(batch[0], source, budget)
        return None

    def _batches(self, nodes: Sequence[Node], budget: int) -> Iterator[list[Node]]:
        batch: list[Node] = []
        for node in sorted(nodes, key=self._layers.alike):
            if batch and not self._fits([*batch, node], budget):
                yield batch
                batch = []
            batch.append(node)
        yield batch

    def _fits(self, nodes: Sequence[Node], budget: int) -> bool:
        features = sum(self._train * image_bytes(leaf.output_shape) for leaf in leaves(nodes))
        kernels = sum(self._layers.kernel_bytes(part) for node in nodes for part in node.subtree())
        return features + kernels <= budget - budget // CHUNK_SHARE

    def _descend(self, node: Node, source: Source, budget: int) -> None:
        """Evaluates a subtree that does not fit as a whole: its own networks, then its children."""
        self._layers.draw(node)
        if node.members:
            own = Node(node.drawn, node.input_shape, node.output_shape, members=node.members)
            if self._fits([own], budget):
                self._stream([own], source, budget)
            else:
                self._probe_in_blocks(own, source, budget)
        if node.children:

            def after(start: int, stop: int) -> Tensor:
                return self._layers.apply(node, source(start, stop))

            self._visit(list(node.children.values()), after, False, budget)
        self._layers.forget([node])

    def _keep(self, child: Node, source: Source, budget: int) -> Tensor:
        shape, device = child.input_shape, self.images.device
        layout = memory_format(device)
        kept = torch.empty(len(self.images), *shape, device=device, memory_format=layout)
        size = self._layers.chunk_images([child], budget // CHUNK_SHARE)
        chunks = self._chunks(0, len(self.images), size)

        def keep(chunk: slice) -> None:
            kept[chunk] = source(chunk.start, chunk.stop)

        self._lanes.each(keep, chunks, self.on_progress)
        return kept

    def _stream(self, nodes: Sequence[Node], source: Source, budget: int) -> None:
        """Evaluates subtrees whose training features fit the budget all together."""
        self._draw_all(nodes)
        ends = leaves(nodes)
        new = self.images.new_empty
        features = {leaf: new(self._train, leaf.features) for leaf in ends}
        self._pass(nodes, source, 0, self._train, budget, _store_into(features))
        fits, watches = self._fit(features)
        columns = self.targets.codes.shape[1]
        decisions = {leaf: new(len(self.images), columns, dtype=torch.float64) for leaf in ends}
        for leaf, fit in fits.items():
            decisions[leaf][: self._train] = fit.train_scores

        def score(leaf: Node, rows: Tensor, chunk: slice) -> None:
            decisions[leaf][chunk] = scores(fits[leaf], rows)

        self._pass(nodes, source, self._train, len(self.images), budget, score)
        self._layers.forget(nodes)
        for leaf in ends:
            self._predict(leaf, decisions[leaf], *watches[leaf])

    def _pass(
        self, nodes: Sequence[Node], source: Source, first: int, end: int, budget: int, sink: Sink
    ) -> None:
        def forward(chunk: slice) -> None:
            self._layers.run(nodes, source(chunk.start, chunk.stop), chunk, sink)

        size = self._layers.chunk_images(nodes, budget // CHUNK_SHARE)
        self._lanes.each(forward, self._chunks(first, end, size), self.on_progress)

    def _draw_all(self, nodes: Sequence[Node]) -> None:
        undrawn = [part for node in nodes for part in node.subtree()]
        self._lanes.each(self._layers.draw, undrawn, self.on_progress)

    def _fit(
        self, features: dict[Node, Tensor]
    ) -> tuple[dict[Node, Fit], dict[Node, tuple[Stopwatch, int]]]:
        """Fits all probes, freeing features on the way; in batches where that helps."""
        waiting = list(features)
        size = self._together()
        fits: dict[Node, Fit] = {}
        watches: dict[Node, tuple[Stopwatch, int]] = {}

        def fit(batch: list[Node]) -> None:
            watch = Stopwatch(self.images.device)
            matrices = [features.pop(leaf) for leaf in batch]
            fits.update(zip(batch, fit_ridge(matrices, self.targets, self.alpha), strict=True))
            watches.update(dict.fromkeys(batch, (watch.stop(), len(batch))))

        batches = [waiting[start : start + size] for start in range(0, len(waiting), size)]
        self._lanes.each(fit, batches, self.on_progress)
        return fits, watches

    def _together(self) -> int:
        """Returns how many systems to solve at once: on the CPU a single one fits the caches."""
        if self.images.device.type != "cuda":
            return 1
        return max(1, self.budget // CHUNK_SHARE // (SYSTEM_BYTES * self._train**2))

    def _probe_in_blocks(self, leaf: Node, source: Source, budget: int) -> None:
        """Evaluates one network whose training features alone exceed the budget."""
        self._draw_all([leaf])
        room = image_bytes(leaf.input_shape) + 2 * image_bytes(leaf.output_shape)
        block = max(1, budget // (3 * room))

        def rows(start: int, stop: int) -> Tensor:
            self.on_progress()
            return as_rows(self._layers.apply(leaf, source(start, stop)))

        watch = Stopwatch(self.images.device)
        fit = fit_ridge_in_blocks(rows, leaf.features, block, self.targets, self.alpha)
        watch.stop()
        decisions = [fit.train_scores]
        for start in range(self._train, len(self.images), block):
            decisions.append(scores(fit, rows(start, min(start + block, len(self.images)))))
        self._layers.forget([leaf])
        self._predict(leaf, torch.cat(decisions), watch, 1)

    def _predict(self, leaf: Node, decision: Tensor, watch: Stopwatch, together: int) -> None:
        labels = predict(self.targets, decision)
        prediction = Prediction(labels, decision.isfinite().all(), watch, together)
        for member in leaf.members:
            self.predictions[member] = prediction

    def _chunks(self, first: int, end: int, size: int) -> Iterator[slice]:
        return (slice(start, min(start + size, end)) for start in range(first, end, size))

    @property
    def _train(self) -> int:
        return len(self.targets.codes)


def _store_into(features: dict[Node, Tensor]) -> Sink:
    def store(leaf: Node, rows: Tensor, chunk: slice) -> None:
        features[leaf][chunk] = rows

    return store
