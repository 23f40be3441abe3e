"""How the probe's prediction of training is drawn."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from services.plotting.figures import INK, PALE, QUIET
from services.trainings.probe_vs_trained import ProbeVsTrained

# Okabe and Ito's palette, which readers with any colour vision can distinguish
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def draw_prediction(comparisons: Sequence[ProbeVsTrained], title: str) -> Figure:
    """Draws trained against probe accuracy, one colour per recipe with its rank correlation."""
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    axes = figure.add_subplot()
    for number, comparison in enumerate(comparisons):
        trained = comparison.trained
        axes.scatter(
            100 * trained.known["probe_accuracy"], 100 * trained.accuracies, s=26, alpha=0.8,
            lw=0, color=_COLOURS[number % len(_COLOURS)], label=_label(comparison), zorder=2,
        )  # fmt: skip
    axes.set(xlabel="probe accuracy (%)", ylabel="trained accuracy, best epoch (%)")
    axes.legend(frameon=False, fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET, labelcolor=INK, labelsize=9)
    axes.grid(color=PALE, lw=0.6, zorder=0)
    axes.set_title(title, loc="left", fontsize=12, color=INK, parse_math=False)
    return figure


def _label(comparison: ProbeVsTrained) -> str:
    recipe, rank = comparison.trained.recipe, comparison.predictions["probe_accuracy"].spearman
    channels = recipe["channels"] or "searched"
    text = f"channels {channels}, {recipe['epochs']} epochs, {recipe['augment']}, "
    text += f"n = {len(comparison.trained.job_ids)}"
    if rank.value is None:
        return text
    return f"{text}: Spearman {rank.value:.2f} [{rank.low:.2f}, {rank.high:.2f}]"
