"""The walk: one trial of many networks as a tree of layers, in chunks of images, under a budget.

On the CPU, features of training images are kept until the probe is fitted and validation images are
scored as they pass. On CUDA, all images pass at once and the features of all of them are kept.
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
from worker.engine.ridge.fit import Fit, Targets, fit_ridge, predict, scores, scores_together
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


class Probe(NamedTuple):
    """A fitted probe and how long its fit took."""

    fit: Fit
    watch: Stopwatch


@dataclass
class Walk:
    """One trial's walk. ``images`` float32 (n, C, H, W) on the device, training images first.

    ``budget`` bounds, in bytes, the features, kept activations and chunks alive at one time.
    On a GPU, ``tuning`` only says how many threads draw weights.
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
        features = sum(self._kept * image_bytes(leaf.output_shape) for leaf in leaves(nodes))
        kernels = sum(self._layers.kernel_bytes(part) for node in nodes for part in node.subtree())
        return features + kernels <= budget - budget // CHUNK_SHARE

    def _descend(self, node: Node, source: Source, budget: int) -> None:
        """Evaluates a subtree that does not fit as a whole: its own networks, then its children."""
        self._draw([node])
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
        """Evaluates subtrees whose kept features fit the budget all together."""
        self._draw_all(nodes)
        features: dict[Node, Tensor] = {}
        self._pass(nodes, source, 0, self._kept, budget, self._store_into(features))
        if self._kept > self._train:
            self._fit_and_score(features)
        else:
            self._score_rest(nodes, source, budget, self._fit(features))
        self._layers.forget(nodes)

    def _store_into(self, features: dict[Node, Tensor]) -> Sink:
        def store(leaf: Node, rows: Tensor, chunk: slice) -> None:
            if len(rows) == self._kept:
                features[leaf] = rows
                return
            whole = features.get(leaf)
            if whole is None:  # of two lanes here, the first one's is taken
                whole = features.setdefault(leaf, rows.new_empty(self._kept, rows.shape[1]))
            whole[chunk] = rows

        return store

    def _score_rest(
        self, nodes: Sequence[Node], source: Source, budget: int, probes: dict[Node, Probe]
    ) -> None:
        """Scores the images whose features are not kept, as they pass."""
        decisions = {leaf: self._new_decision(probe.fit) for leaf, probe in probes.items()}

        def score(leaf: Node, rows: Tensor, chunk: slice) -> None:
            decisions[leaf][chunk] = scores(probes[leaf].fit, rows)

        self._pass(nodes, source, self._kept, len(self.images), budget, score)
        for leaf, probe in probes.items():
            self._predict([leaf], decisions[leaf][None], probe.watch)

    def _new_decision(self, fit: Fit) -> Tensor:
        decision = fit.train_scores.new_empty(len(self.images), fit.train_scores.shape[1])
        decision[: self._train] = fit.train_scores
        return decision

    def _pass(
        self, nodes: Sequence[Node], source: Source, first: int, end: int, budget: int, sink: Sink
    ) -> None:
        def forward(chunk: slice) -> None:
            self._layers.run(nodes, source(chunk.start, chunk.stop), chunk, sink)

        size = self._layers.chunk_images(nodes, budget // CHUNK_SHARE)
        self._lanes.each(forward, self._chunks(first, end, size), self.on_progress)

    def _draw_all(self, nodes: Sequence[Node]) -> None:
        self._draw([part for node in nodes for part in node.subtree()])

    def _draw(self, nodes: Sequence[Node]) -> None:
        if self._on_cuda:
            self._layers.draw_and_send(nodes, self.tuning.threads)
            self.on_progress()
        else:
            self._lanes.each(self._layers.draw, nodes, self.on_progress)

    def _fit(self, features: dict[Node, Tensor]) -> dict[Node, Probe]:
        """Fits all probes to features of training images, freeing them on the way."""
        probes: dict[Node, Probe] = {}

        def fit(leaf: Node) -> None:
            watch = Stopwatch(self.images.device)
            (fitted,) = fit_ridge([features.pop(leaf)], self.targets, self.alpha)
            probes[leaf] = Probe(fitted, watch.stop())

        self._lanes.each(fit, list(features), self.on_progress)
        return probes

    def _fit_and_score(self, features: dict[Node, Tensor]) -> None:
        """Fits and scores probes in batches, given features of all images."""
        waiting, size = list(features), self._together()
        for start in range(0, len(waiting), size):
            batch = waiting[start : start + size]
            matrices = [features.pop(leaf) for leaf in batch]
            watch = Stopwatch(self.images.device)
            train = [matrix[: self._train] for matrix in matrices]
            fits = fit_ridge(train, self.targets, self.alpha)
            watch.stop()
            rest = scores_together(fits, [matrix[self._train :] for matrix in matrices])
            self._predict(batch, torch.cat([fits.train_scores, rest], dim=1), watch)
            self.on_progress()

    def _together(self) -> int:
        """Returns how many systems to solve at once."""
        return max(1, self.budget // CHUNK_SHARE // (SYSTEM_BYTES * self._train**2))

    def _probe_in_blocks(self, leaf: Node, source: Source, budget: int) -> None:
        """Evaluates one network whose training features exceed the budget by themselves."""
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
        self._predict([leaf], torch.cat(decisions)[None], watch)

    def _predict(self, batch: Sequence[Node], decisions: Tensor, watch: Stopwatch) -> None:
        """Notes what decision values (b, n, k) of ``batch`` predict."""
        labels = predict(self.targets, decisions)
        finite = decisions.isfinite().all(dim=2).all(dim=1)
        for row, leaf in enumerate(batch):
            prediction = Prediction(labels[row], finite[row], watch, len(batch))
            self.predictions.update(dict.fromkeys(leaf.members, prediction))

    def _chunks(self, first: int, end: int, size: int) -> Iterator[slice]:
        """Cuts images into chunks; on CUDA into equal ones, the last two may overlap.

        So a layer meets as few numbers of images as possible: cuDNN prepares itself for each.
        """
        if self._on_cuda:
            size = equal_chunk(end - first, size)
        for start in range(first, end, size):
            begin = max(first, min(start, end - size)) if self._on_cuda else start
            yield slice(begin, min(begin + size, end))

    @property
    def _train(self) -> int:
        return len(self.targets.codes)

    @property
    def _on_cuda(self) -> bool:
        return self.images.device.type == "cuda"

    @property
    def _kept(self) -> int:
        """Images whose features are kept: CUDA sends all of them through a layer at once."""
        return len(self.images) if self._on_cuda else self._train


def equal_chunk(images: int, most: int) -> int:
    """Returns the largest of ``images``, a half, a quarter, ... (rounded up) within ``most``."""
    size, parts = images, 1
    while size > max(most, 1):
        parts *= 2
        size = -(-images // parts)
    return size
