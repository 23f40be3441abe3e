"""The experiment's table of trained networks as Markdown and CSV, and code that loads weights."""

import csv
import io
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from services.leasing.group_leases import architecture_of
from shared.domain.architecture import TORCH_ACTIVATIONS, Architecture
from shared.domain.recipe import Recipe


class TableFormat(StrEnum):
    MARKDOWN = "md"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        return "text/markdown" if self is TableFormat.MARKDOWN else "text/csv"


HEADERS = (
    "training", "job", "kernel_size", "stride", "dilation", "channels", "seed", "status",
    "epochs", "best_epoch", "validation_loss", "accuracy_percent", "last_accuracy_percent",
    "probe_accuracy_percent", "parameters", "minutes", "images_per_s", "device",
)  # fmt: skip


def network_of(training: Row[Any]) -> Architecture:
    """Returns the network of a training's row, at its recipe's channels."""
    return Recipe.model_validate(training.recipe).widen(architecture_of(training))


def draw_table(trainings: Iterable[Row[Any]], table_format: TableFormat) -> str:
    """Returns a table with one line per training; best epoch's loss and accuracy, in percent."""
    rows = [_cells(one) for one in trainings]
    if table_format is TableFormat.CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADERS)
        writer.writerows(rows)
        return text.getvalue()
    lines = [HEADERS, ["---"] * len(HEADERS), *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(value: object) -> str:
    return str(value).replace("|", "\\|")


def _cells(one: Row[Any]) -> list[object]:
    layers = network_of(one).layers
    channels = sorted({layer.channels for layer in layers})
    return [
        one.id, one.job_id, _join(one.kernel_size), _join(one.stride), _join(one.dilation),
        _join(channels), one.recipe["seed"], one.status, f"{one.epochs_done}/{one.epochs}",
        _shown(one.best_epoch), _shown(one.best_loss, "{:.5f}"), _percent(one.best_accuracy),
        _percent(one.last_accuracy), _percent(one.probe_accuracy), _shown(one.parameters),
        _shown(one.seconds and one.seconds / 60, "{:.2f}"), _shown(one.images_per_s, "{:.0f}"),
        _shown(one.device),
    ]  # fmt: skip


def _join(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _shown(value: object, how: str = "{}") -> str:
    return "" if value is None else how.format(value)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"


def write_snippet(training: Row[Any], input_channels: int) -> str | None:
    """Returns Python that loads a training's best weights; None where it has none.

    Needs torch and safetensors alone.
    """
    if training.weights is None or training.parameters is None:
        return None
    network = network_of(training)
    lines = ["import torch", "from safetensors.torch import load_file", ""]
    lines.append("network = torch.nn.Sequential(")
    before = input_channels
    for layer in network.layers:
        lines += [
            f"    torch.nn.Conv2d({before}, {layer.channels}, {layer.kernel_size}, "
            f"stride={layer.stride}, padding={layer.padding}, dilation={layer.dilation}),",
            f"    torch.nn.{TORCH_ACTIVATIONS[layer.activation]}(),",
        ]
        before = layer.channels
    file = f"training-{training.id}.safetensors"
    lines += [
        "    torch.nn.Flatten(),",
        ")",
        f'weights = load_file("{file}")',
        'classes, features = weights[f"{len(network)}.weight"].shape',
        "network.append(torch.nn.Linear(features, classes))",
        "network.load_state_dict(weights)",
        "network.eval()  # takes images (N, C, H, W) in [0, 1]",
    ]
    return "\n".join(lines) + "\n"
