"""``convsweep demo``: the whole product once, from nothing to a leaderboard and a picture."""

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.commands.cluster import local_settings
from cli.embedded.local import start_cluster, stop_cluster
from cli.watching import live_display, watch_sweep
from convsweep import Client
from shared.domain.status import JobStatus, SweepStatus


def demo(
    output_dir: Annotated[Path, typer.Option(help="Where the two files go.")] = Path("demo"),
) -> None:
    """Starts a cluster, sweeps 512 small networks on handwritten digits, shows what came out."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output.fail(f"{output_dir} cannot be created: {error.strerror}.") from error
    settings = local_settings(output_dir.resolve() / ".convsweep", 0)
    stop_cluster(settings.data_dir)  # what an interrupted demo left behind
    with output.console.status("Starting Postgres, Valkey, API, dispatcher and a worker …"):
        info = start_cluster(settings, workers=1)
    try:
        output.say(f"The cluster runs at {info.url}.")
        with Client(info.url) as client:
            _sweep(client, output_dir)
    finally:
        with output.console.status("Stopping every process …"):
            stop_cluster(settings.data_dir)
    output.say("Every process has stopped. Next: convsweep up")


def _sweep(client: Client, output_dir: Path) -> None:
    for left_behind in client.list_sweeps():
        if left_behind["status"] in ("running", "paused"):
            client.control_sweep(left_behind["id"], "cancel")
    sweep = client.create_sweep({"preset": "quick", "name": "demo"})
    output.say(
        f"POST /v1/sweeps: sweep {sweep['id']} with {sweep['total']} architectures, "
        f"{sweep['protocol']['trials']} trials each."
    )
    with live_display(sweep["id"]) as show:
        final = watch_sweep(lambda: Client(client.url), sweep["id"], show)
    if final.counts[JobStatus.FAILED] or final.status != SweepStatus.COMPLETED:
        raise output.fail(f"The sweep ended {final.status} with {final.counts}.")
    leaders = client.leaderboard(sweep["id"], limit=10)
    output.print_leaderboard(list(leaders), "\nThe best 10")
    plot, table = output_dir / "scatter.png", output_dir / "results.csv"
    client.download(f"/v1/sweeps/{sweep['id']}/plots/scatter.png", plot)
    client.download(f"/v1/sweeps/{sweep['id']}/export.csv", table)
    output.say(f"\nPlot:    {plot}\nResults: {table}")
