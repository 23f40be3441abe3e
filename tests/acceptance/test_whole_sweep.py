"""A sweep from POST to leaderboard on real servers, through the real command line."""

import csv
import io
import json
from pathlib import Path

import torch
from sklearn.linear_model import RidgeClassifier

from shared.domain.protocol import Protocol
from tests.acceptance.conftest import Cluster, check_counts, small_sweep
from worker.engine.data.datasets import load_dataset


def test_a_sweep_runs_from_post_to_leaderboard_export_and_plot(
    cluster: Cluster, tmp_path: Path
) -> None:
    with cluster.client() as client:
        sweep = client.create_sweep(small_sweep(timing={"max_s": 0.02}))
    watched = cluster.convsweep("sweep", "watch", str(sweep["id"]))
    assert "completed" in watched.stdout
    shown = cluster.convsweep_json("sweep", "show", "latest")
    check_counts(shown)
    assert shown["status"] == "completed"
    assert shown["counts"]["failed"] == 0
    leaders = cluster.convsweep_json("top", "latest", "-n", "1000")
    assert len(leaders) == shown["counts"]["completed"] > 30
    assert shown["counts"]["completed"] + shown["counts"]["invalid"] == shown["total"] == 64
    ranked = [row["accuracy"] for row in leaders]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] > 0.5  # ten digits: chance is 0.1
    assert all(row["throughput"] > 0 and row["trials_done"] == 2 for row in leaders)

    table, picture = tmp_path / "results.csv", tmp_path / "scatter.png"
    cluster.convsweep("export", "latest", "-o", str(table))
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == shown["total"] == len({row["architecture_hash"] for row in rows})
    cluster.convsweep("plot", "latest", "scatter", "-o", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_written_weights_reproduce_the_predictions_of_a_trial(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.convsweep_json("sweep", "start", "--file", _write(tmp_path, small_sweep()), "--watch")
    leader = cluster.convsweep_json("top", "latest")[0]
    file = tmp_path / "weights.pt"
    job = cluster.convsweep_json("job", str(leader["id"]), "--weights", str(file), "--trial", "1")
    network = torch.nn.Sequential(
        *(
            part
            for layer, before in zip(job["layers"], [1, 8], strict=True)
            for part in (
                torch.nn.Conv2d(
                    before,
                    layer["channels"],
                    layer["kernel_size"],
                    layer["stride"],
                    dilation=layer["dilation"],
                ),
                torch.nn.ReLU(),
            )
        ),
        torch.nn.Flatten(),
    )
    network.load_state_dict(torch.load(file, weights_only=True))
    dataset = load_dataset(tmp_path, Protocol.model_validate(job["protocol"]))
    with torch.inference_mode():
        train, validation = network(dataset.train_images), network(dataset.validation_images)
    classifier = RidgeClassifier(alpha=1.0).fit(train.double(), dataset.train_labels)
    right = classifier.predict(validation.double()) == dataset.validation_labels.numpy()
    bits = int.from_bytes(bytes.fromhex(job["trials"][1]["correct_bits"]), "big")
    stored = [bool(bits >> (103 - image) & 1) for image in range(100)]
    assert sum(a != b for a, b in zip(stored, right, strict=True)) <= 1


def _write(folder: Path, sweep: dict[str, object]) -> str:
    file = folder / "sweep.json"
    file.write_text(json.dumps(sweep))
    return str(file)
