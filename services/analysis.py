"""Pictures and statistics of a sweep's results."""

import io

from matplotlib.figure import Figure
from sqlalchemy.orm import Session

from services.sweeps import get_sweep
from shared.db.queries import leaderboard as leaderboard_queries
from shared.errors import ConflictError


def plot_scatter(session: Session, sweep_id: int) -> bytes:
    """Returns a PNG of accuracy against throughput, coloured by ratio, one point per network.

    Source: the first figure of the random-CNN experiment.

    Raises:
        SweepNotFoundError: there is no such sweep.
        ConflictError: no network has both figures yet.
    """
    name = get_sweep(session, sweep_id).sweep.name
    points = leaderboard_queries.select_points(session, sweep_id)
    if not points:
        raise ConflictError(f"Sweep {sweep_id} has no measured accuracy and throughput yet.")
    accuracy, throughput, ratio, _ = zip(*points, strict=True)
    figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    dots = axes.scatter(
        throughput, [100 * a for a in accuracy], c=ratio, s=14, cmap="viridis", alpha=0.8, lw=0
    )
    axes.set_xscale("log")
    axes.set_xlabel("throughput (images/s)")
    axes.set_ylabel("validation accuracy (%)")
    axes.set_title(f"{name}: {len(points):,} networks", parse_math=False)
    axes.grid(alpha=0.25, which="both", lw=0.5)
    figure.colorbar(dots, label="ratio (output / input elements)")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
