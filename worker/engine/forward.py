"""Layers at work: weights drawn when needed, and a chunk of images on its way down a tree."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from shared.domain.architecture import LayerConfig
from worker.engine.cpu.spectral import (
    Grid,
    Plan,
    choose_spectral,
    convolve,
    transform,
    transform_kernel,
)
from worker.engine.draws import draw_on_device
from worker.engine.faults import lacks_engine
from worker.engine.layers import activation_function, draw_layer
from worker.engine.tree import Node, Shape, image_bytes

CPU_PIECE_BYTES = 32 * 2**20  # all activations under way, about a last-level cache
SPECTRAL_IMAGES = 64  # a chunk for products of spectra: more hardly make them faster
MIN_SPECTRAL_IMAGES = 16  # fewer make them slow

_UNFUSED: set[tuple[LayerConfig, Shape]] = set()  # layers for which cuDNN has no fused kernel

Sink = Callable[[Node, Tensor, slice], None]
Spectra = dict[Grid, Tensor]


def memory_format(device: torch.device) -> torch.memory_format:
    """Returns the layout of activations: channels last, except on CUDA.

    On CUDA channels last is faster with tensor cores, which exact float32 does not use.
    """
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


class Forward:
    """The layers of one trial's tree on one device.

    On the CPU, layers that are cheaper in the frequency domain, by the factor ``slowdown``, are
    convolved there, as long as a chunk of images has room in ``room`` bytes for each of ``lanes``.
    """

    def __init__(
        self,
        roots: Sequence[Node],
        device: torch.device,
        *,
        lanes: int,
        room: int,
        slowdown: float,
    ) -> None:
        self._device = device
        self._fuses = device.type == "cuda" and torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]
        self._lanes = lanes
        self._slowdown = slowdown
        self._weights: dict[Node, tuple[Tensor, Tensor]] = {}
        self._plans: dict[Node, Plan] = {}
        self._gathering: set[Node] = set()  # direct ones with spectral ones below
        if device.type == "cpu":
            self._plan(roots, room // lanes // MIN_SPECTRAL_IMAGES)

    def draw(self, node: Node) -> None:
        """Draws a layer's weights on the CPU, where they are used."""
        weight, bias = draw_layer(node.drawn.layer, node.input_shape[0], node.drawn.seed)
        if (plan := self._plans.get(node)) is not None:
            weight = transform_kernel(weight, plan)
        else:
            weight = weight.contiguous(memory_format=memory_format(self._device))
        self._weights[node] = weight, bias

    def draw_and_send(self, nodes: Sequence[Node], threads: int) -> None:
        """Draws the weights of many layers side by side and sends them to the device at once."""
        self._weights |= draw_on_device(nodes, self._device, threads)

    def forget(self, nodes: Sequence[Node]) -> None:
        """Frees the weights of whole subtrees."""
        for node in nodes:
            for part in node.subtree():
                self._weights.pop(part, None)

    def kernel_bytes(self, node: Node) -> int:
        """Returns what a node's weights take where they are spectra; others are small."""
        plan = self._plans.get(node)
        return plan.kernel_bytes() if plan is not None else 0

    def alike(self, node: Node) -> tuple[int, int]:
        """Returns a key by which to order siblings so that those sharing spectra are neighbours."""
        plan = self._plans.get(node)
        return plan.grid if plan is not None else (0, 0)

    def apply(self, node: Node, images: Tensor, spectra: Spectra | None = None) -> Tensor:
        """Returns the activation (m, C, H, W) of a drawn layer.

        ``spectra`` remembers those of ``images`` for siblings.
        """
        activate = activation_function(node.drawn.layer.activation)
        weight, bias = self._weights[node]
        if (plan := self._plans.get(node)) is None:
            if node.drawn.layer.activation == "relu" and self._fuses:
                return _convolve_relu(images, weight, bias, node)
            return activate(_convolve_direct(images, weight, bias, node))
        spectra = {} if spectra is None else spectra
        if plan.grid not in spectra:
            spectra.clear()  # siblings on the same grid follow each other
            spectra[plan.grid] = transform(images, plan)
        return activate(convolve(spectra[plan.grid], weight, bias, plan))

    def run(self, siblings: Sequence[Node], images: Tensor, chunk: slice, sink: Sink) -> None:
        """Sends a chunk of images depth first through subtrees that it feeds.

        ``sink`` gets every node at which a network ends with its activation as rows (m, p) and
        the numbers of the images in it.
        """
        spectra: Spectra = {}
        for node in sorted(siblings, key=self.alike):
            if node in self._plans:
                self._hand_on(node, self.apply(node, images, spectra), chunk, sink)
            elif node in self._gathering:
                end, output = self._gather(node, images)
                self._hand_on(end, output, chunk, sink)
            else:
                for piece in self._pieces(node, images):
                    place = slice(chunk.start + piece.start, chunk.start + piece.stop)
                    self._descend(node, images[piece], place, sink)

    def chunk_images(self, siblings: Sequence[Node], room: int) -> int:
        """Returns how many images to send down at once within ``room`` bytes for all lanes."""
        room //= self._lanes
        if any(part in self._plans for node in siblings for part in node.subtree()):
            most = SPECTRAL_IMAGES
        elif self._device.type == "cpu":
            most = max(1, CPU_PIECE_BYTES // self._lanes // self._bytes(siblings))
        else:
            most = room
        return max(1, min(most, room // self._bytes(siblings)))

    def _plan(self, siblings: Sequence[Node], room: int) -> None:
        """Chooses layers for the frequency domain, none of siblings for which there is no room."""
        plans = {node: Plan(node.drawn.layer, node.input_shape) for node in siblings}
        chosen = set(choose_spectral(plans.values(), self._slowdown))
        plans = {node: plan for node, plan in plans.items() if plan in chosen}
        self._plans |= plans
        if siblings and self._bytes(siblings) > room:
            for node in plans:
                del self._plans[node]
        for node in siblings:
            self._plan(list(node.children.values()), room)
            below = any(part in self._plans for part in node.subtree() if part is not node)
            if below and node not in self._plans:
                self._gathering.add(node)

    def _bytes(self, siblings: Sequence[Node]) -> int:
        """Returns what one image takes on the most expensive way through these subtrees."""
        ways = [0]
        for node in siblings:
            below = self._bytes(list(node.children.values())) if node.children else 0
            plan = self._plans.get(node)
            spectral = plan.spectrum_bytes() + plan.working_bytes() if plan is not None else 0
            ways.append(spectral + image_bytes(node.output_shape) + below)
        return image_bytes(siblings[0].input_shape) + max(ways)

    def _hand_on(self, node: Node, output: Tensor, chunk: slice, sink: Sink) -> None:
        if node.members:
            sink(node, as_rows(output), chunk)
        self.run(list(node.children.values()), output, chunk, sink)

    def _descend(self, node: Node, images: Tensor, chunk: slice, sink: Sink) -> None:
        output = self.apply(node, images)
        if node.members:
            sink(node, as_rows(output), chunk)
        for child in node.children.values():
            self._descend(child, output, chunk, sink)

    def _gather(self, node: Node, images: Tensor) -> tuple[Node, Tensor]:
        """Runs a chunk in pieces through a path of direct layers; returns its end and output."""
        path = [node]
        while not path[-1].members and len(path[-1].children) == 1:
            (child,) = path[-1].children.values()
            if child not in self._gathering:
                break
            path.append(child)
        parts = []
        for piece in self._pieces(node, images):
            part = images[piece]
            for step in path:
                part = self.apply(step, part)
            parts.append(part)
        return path[-1], torch.cat(parts)

    def _pieces(self, node: Node, images: Tensor) -> Iterator[slice]:
        """Cuts a chunk so that the direct layers of a subtree stay in the caches."""
        size = len(images)
        if self._device.type == "cpu":
            taken = image_bytes(node.input_shape) + node.path_bytes()
            size = max(1, CPU_PIECE_BYTES // self._lanes // taken)
        return (slice(i, min(i + size, len(images))) for i in range(0, len(images), size))


def _convolve_direct(images: Tensor, weight: Tensor, bias: Tensor, node: Node) -> Tensor:
    layer = node.drawn.layer
    return functional.conv2d(images, weight, bias, layer.stride, layer.padding, layer.dilation)


def _convolve_relu(images: Tensor, weight: Tensor, bias: Tensor, node: Node) -> Tensor:
    """Convolves, adds the bias and applies ReLU in one kernel, where cuDNN has one."""
    layer, key = node.drawn.layer, (node.drawn.layer, node.input_shape)
    if key not in _UNFUSED:
        geometry = ((layer.stride,) * 2, (layer.padding,) * 2, (layer.dilation,) * 2)
        try:
            return torch.cudnn_convolution_relu(images, weight, bias, *geometry, 1)
        except RuntimeError as error:
            if not lacks_engine(error):
                raise
    output = _convolve_direct(images, weight, bias, node).relu_()
    _UNFUSED.add(key)  # not before it worked: there may have been no memory for either
    return output


def as_rows(output: Tensor) -> Tensor:
    """Returns activations (m, C, H, W) as rows (m, p), in whatever order they lie in memory.

    The order is the same for all images, and a ridge does not care for the order of features.
    """
    if memory_format(output.device) is torch.channels_last:
        output = output.permute(0, 2, 3, 1)
    return output.flatten(1).contiguous()
