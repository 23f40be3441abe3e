"""Gradient descent on one network: epochs that can be stopped after any and gone on with."""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from shared.domain.architecture import Architecture
from shared.domain.errors import CheckpointError, NonFiniteError
from shared.domain.protocol import Precision
from shared.domain.recipe import Augment, EpochResult, Recipe, best_epoch
from worker.engine.data.datasets import Dataset
from worker.engine.faults import engine_errors
from worker.engine.layers import activation_module, draw_layer, make_conv, torch_memory_format
from worker.engine.timing import arithmetic
from worker.engine.training.augment import augment, draw_operations

CHUNK_IMAGES = 1024  # augmented at once: a GPU would wait for its orders with fewer
CPU_CHUNK_IMAGES = 256  # more do not fit its caches
VALIDATION_BATCH = 512
CPU_VALIDATION_BATCH = 64  # for the same two reasons

Progress = Callable[[], None]


def part_seed(recipe: Recipe, part: str) -> int:
    """Returns the 63-bit seed of a part of a training: a layer's weights, an epoch's draws."""
    text = f"convsweep/training/1:{recipe.seed}:{part}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def build_trainable(
    architecture: Architecture, input_shape: tuple[int, int, int], classes: int, recipe: Recipe
) -> nn.Sequential:
    """Returns convolutions with their activations, ``Flatten`` and ``Linear(features, classes)``.

    On the CPU, as PyTorch initialises such a network, drawn from the recipe's seed. The
    architecture has the recipe's channels already. Maps images (N, C, H, W) in [0, 1] to scores
    (N, classes).
    """
    modules: list[nn.Module] = []
    channels = input_shape[0]
    for number, layer in enumerate(architecture.layers):
        conv = make_conv(layer, channels, "cpu")
        weight, bias = draw_layer(layer, channels, part_seed(recipe, f"layer {number}"))
        conv.load_state_dict({"weight": weight, "bias": bias})
        activation = activation_module(layer.activation)
        if isinstance(activation, nn.ReLU):
            activation.inplace = True  # nothing else needs what it was applied to
        modules += [conv, activation]
        channels = layer.channels
    features = architecture.measures(input_shape).features
    return nn.Sequential(*modules, nn.Flatten(), _draw_head(features, classes, recipe))


def _draw_head(features: int, classes: int, recipe: Recipe) -> nn.Linear:
    """Source: ``torch.nn.Linear.reset_parameters``."""
    generator = torch.Generator().manual_seed(part_seed(recipe, "head"))
    bound = 1 / math.sqrt(features)
    head = nn.Linear(features, classes, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)
    return head


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Returns the rate of a step, counted from 0: linear warm-up, then a cosine down to 0."""
    warm, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


class Training:
    """One network and how far its training is. All images and all work are on one device.

    The random numbers of an epoch come from the recipe's seed and the epoch's number, and the
    learning rate from the step's: a training that goes on from a state repeats what an undisturbed
    one does, exactly so on the same kind of device.
    """

    def __init__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        images: Dataset,
        device: torch.device,
        device_model: str | None = None,
    ) -> None:
        """Builds the network and takes the images to the device.

        Args:
            device_model: what the results name as their device.

        Raises:
            EngineError: PyTorch cannot build this network here, for want of memory for example.
            DevicePoisonedError: the device is unusable; the process must end.
        """
        self._recipe = recipe
        self._device, self._device_model = device, device_model
        with engine_errors(device):
            self._images = images.to(device)
            shape = tuple(images.train_images.shape[1:])
            network = build_trainable(architecture, shape, images.classes, recipe)  # type: ignore[arg-type]
            layout = torch_memory_format(recipe.memory_format)
            self.network = network.to(device).to(memory_format=layout)
            self._optimizer = torch.optim.AdamW(
                self.network.parameters(),
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                fused=True,
            )
        self.results: list[EpochResult] = []
        self.best_weights: dict[str, Tensor] = {}

    @property
    def is_complete(self) -> bool:
        return len(self.results) >= self._recipe.epochs

    def run_epoch(self, on_progress: Progress) -> EpochResult:
        """Trains for one epoch, validates, and returns what both measured.

        ``on_progress`` is called between batches; what it raises ends the epoch, and the training
        is then to be built anew from its last state.

        Raises:
            NonFiniteError: the loss is no number any more.
            EngineError: PyTorch cannot train this network here, for want of memory for example.
            DevicePoisonedError: the device is unusable; the process must end.
        """
        with engine_errors(self._device), _reproducible(self._recipe.precision):
            return self._run_epoch(on_progress)

    def _run_epoch(self, on_progress: Progress) -> EpochResult:
        number = len(self.results) + 1
        started = time.perf_counter()
        train_loss, train_accuracy, rate = self._train(number, on_progress)
        trained = time.perf_counter()
        loss, accuracy = self._validate(on_progress)
        if not (math.isfinite(train_loss) and math.isfinite(loss)):
            raise NonFiniteError(
                f"The loss of epoch {number} is no number; a smaller learning rate may help."
            )
        images_per_s = len(self._images.train_labels) / (trained - started)
        result = EpochResult(
            epoch=number,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=loss,
            validation_accuracy=accuracy,
            learning_rate=rate,
            seconds=time.perf_counter() - started,
            images_per_s=None if self._recipe.share_device else images_per_s,
            device=self._device_model,
        )
        self.results.append(result)
        if best_epoch(self.results) is result:
            state = self.network.state_dict()
            self.best_weights = {name: value.cpu().clone() for name, value in state.items()}
        return result

    def _train(self, number: int, on_progress: Progress) -> tuple[float, float, float]:
        recipe, labels = self._recipe, self._images.train_labels
        steps = -(-len(labels) // recipe.batch_size)
        step = (number - 1) * steps
        loss_sum = torch.zeros((), device=self._device, dtype=torch.float64)
        right = torch.zeros((), device=self._device, dtype=torch.int64)
        for images, wanted in self._batches(number):
            rate = learning_rate(recipe, step, steps)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            with self._autocast():
                scores = self.network(images)
            loss = functional.cross_entropy(scores.float(), wanted)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            loss_sum += loss.detach() * len(wanted)
            right += (scores.detach().argmax(1) == wanted).sum()
            step += 1
            on_progress()
        return float(loss_sum) / len(labels), int(right) / len(labels), rate

    def _batches(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields every training image once, shuffled and augmented by the epoch's own draws."""
        generator = torch.Generator().manual_seed(part_seed(self._recipe, f"epoch {number}"))
        count, batch = len(self._images.train_labels), self._recipe.batch_size
        order = torch.randperm(count, generator=generator)
        draw = draw_operations(count, generator)
        most = CPU_CHUNK_IMAGES if self._device.type == "cpu" else CHUNK_IMAGES
        chunk = max(most // batch, 1) * batch
        for first in range(0, count, chunk):
            rows = order[first : first + chunk].to(self._device)
            images = self._images.train_images.index_select(0, rows)
            if self._recipe.augment is Augment.TRIVIAL_WIDE:
                images = augment(images, draw[first : first + chunk])
            labels = self._images.train_labels[rows]
            for start in range(0, len(rows), batch):
                part = slice(start, start + batch)
                yield self._as_input(images[part]), labels[part]

    @torch.no_grad()
    def _validate(self, on_progress: Progress) -> tuple[float, float]:
        labels = self._images.validation_labels
        loss = torch.zeros((), device=self._device, dtype=torch.float64)
        right = torch.zeros((), device=self._device, dtype=torch.int64)
        batch = CPU_VALIDATION_BATCH if self._device.type == "cpu" else VALIDATION_BATCH
        for start in range(0, len(labels), batch):
            part = slice(start, start + batch)
            with self._autocast():
                scores = self.network(self._as_input(self._images.validation_images[part])).float()
            loss += functional.cross_entropy(scores, labels[part], reduction="sum")
            right += (scores.argmax(1) == labels[part]).sum()
            on_progress()
        return float(loss) / len(labels), int(right) / len(labels)

    def _as_input(self, images: Tensor) -> Tensor:
        # in this order: bytes are slow to move between the formats
        floats = images.float().div_(255) if images.dtype == torch.uint8 else images
        return floats.contiguous(memory_format=torch_memory_format(self._recipe.memory_format))

    def _autocast(self) -> torch.autocast:
        mixed = self._recipe.precision is Precision.BFLOAT16
        return torch.autocast(self._device.type, torch.bfloat16, enabled=mixed)

    def state(self) -> dict[str, Any]:
        """Returns everything that the next epoch needs: tensors on the CPU, and JSON values.

        On the CPU, tensors are those in use; copy or write them before the next epoch.

        Raises:
            EngineError: the device cannot hand them over.
            DevicePoisonedError: the device is unusable; the process must end.
        """
        with engine_errors(self._device):
            network, optimizer = self.network.state_dict(), self._optimizer.state_dict()
            return {
                "results": [asdict(result) for result in self.results],
                "network": tree_map(_to_cpu, dict(network)),
                "optimizer": tree_map(_to_cpu, optimizer),
                "best_weights": self.best_weights,
                "epoch": len(self.results),
            }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to where ``state`` was taken.

        Raises:
            CheckpointError: it is the state of another network, or incomplete.
            EngineError: there is no room for it on the device.
            DevicePoisonedError: the device is unusable; the process must end.
        """
        try:
            results = [EpochResult(**result) for result in state["results"]]
            _check_shapes(state["network"], self.network.state_dict())
            best_weights = dict(state["best_weights"])
            with engine_errors(self._device):
                self.network.load_state_dict(state["network"])
                self._optimizer.load_state_dict(state["optimizer"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"This is no state of this training: {error}") from error
        self.results, self.best_weights = results, best_weights


def _to_cpu(part: Any) -> Any:
    return part.cpu() if isinstance(part, Tensor) else part


def _check_shapes(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Refuses another network's tensors; PyTorch's own error would look like a fault."""
    shapes = [{name: tuple(part.shape) for name, part in one.items()} for one in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"its tensors are {shapes[0]}, not {shapes[1]}")


@contextlib.contextmanager
def _reproducible(precision: Precision) -> Iterator[None]:
    """Sets arithmetic so that the same device gives the same numbers again."""
    with arithmetic(precision):
        before = torch.backends.cudnn.deterministic
        torch.backends.cudnn.benchmark = False  # set back by ``arithmetic``
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = before
