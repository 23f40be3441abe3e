"""The tree of one trial: drawn layers, which networks end where, and what they take in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.domain.architecture import LayerConfig

FLOAT_BYTES = 4

Shape = tuple[int, int, int]


class DrawnLayer(NamedTuple):
    """A layer of one trial: equal ones after equal ones are computed once."""

    layer: LayerConfig
    seed: int


@dataclass(eq=False)
class Node:
    """A drawn layer, what follows it, and the members whose networks end here."""

    drawn: DrawnLayer
    input_shape: Shape
    output_shape: Shape
    children: dict[DrawnLayer, "Node"] = field(default_factory=dict)
    members: list[int] = field(default_factory=list)

    @property
    def features(self) -> int:
        """Elements of the output for one image."""
        channels, height, width = self.output_shape
        return channels * height * width

    def subtree(self) -> Iterator["Node"]:
        """Yields this node and everything under it, depth first."""
        yield self
        for child in self.children.values():
            yield from child.subtree()

    def path_bytes(self) -> int:
        """Returns what one image's activations take on the longest way through this subtree."""
        below = (child.path_bytes() for child in self.children.values())
        return image_bytes(self.output_shape) + max(below, default=0)


class Network(NamedTuple):
    """A member of the tree: its number, its layers and the shape after each of them."""

    member: int
    layers: Sequence[DrawnLayer]
    shapes: Sequence[Shape]


def grow_tree(networks: Sequence[Network], input_shape: Shape) -> list[Node]:
    """Returns the roots of the tree of ``networks``, of any depths."""
    roots: dict[DrawnLayer, Node] = {}
    for network in networks:
        children, before = roots, input_shape
        for drawn, shape in zip(network.layers, network.shapes, strict=True):
            node = children.setdefault(drawn, Node(drawn, before, shape))
            children, before = node.children, shape
        node.members.append(network.member)
    return list(roots.values())


def leaves(nodes: Sequence[Node]) -> list[Node]:
    """Returns the nodes in these subtrees at which a network ends, depth first."""
    return [leaf for node in nodes for leaf in node.subtree() if leaf.members]


def image_bytes(shape: Shape) -> int:
    """Returns the bytes of one float32 activation of this shape."""
    channels, height, width = shape
    return channels * height * width * FLOAT_BYTES
