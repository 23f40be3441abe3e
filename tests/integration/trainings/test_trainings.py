"""Trainings as jobs: created over HTTP, claimed, done, resumed, controlled and read."""

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from convsweep import ApiError
from services.dispatching.dispatch import reap_expired_leases, send_hints
from services.leasing.training_leases import claim_training
from services.sweeps.control import cancel_sweep
from services.sweeps.creation import create_sweep
from shared.domain.protocol import Order, Protocol
from shared.domain.space import LayerSpace, SearchSpace
from tests.conftest import SessionFactory
from tests.integration.database.cutting_proxy import Cut, CuttingProxy
from tests.integration.scenario import add_worker, claimed, complete, rejection, success, trial
from tests.integration.trainings.site import INPUT, Json, Site
from worker.training.checkpoints import LEFTOVER_S

PUBLISHED = Path(__file__).parents[2] / "published_trained.json"
OF_THE_MACHINE = ("seconds", "images_per_s", "device")


def curve(training: Json) -> list[Json]:
    """A training's epochs without their times."""
    return [
        {name: value for name, value in epoch.items() if name not in OF_THE_MACHINE}
        for epoch in training["curve"]
    ]


def test_a_training_is_asked_for_done_and_read(site: Site, tmp_path: Path) -> None:
    sweep_id = site.add_sweep()
    asked = site.ask(sweep_id, {"by": "rank", "count": 1})
    training_id = asked["trainings"][0]["id"]
    assert site.ask(sweep_id, {"by": "rank", "count": 1})["created"] == 0  # asking again is safe
    site.worker().train(training_id)
    found = site.client.get_training(training_id)
    assert (found["status"], found["epochs_done"], found["note"]) == ("completed", 4, None)
    assert [epoch["epoch"] for epoch in found["curve"]] == [1, 2, 3, 4]
    best = max(found["curve"], key=lambda epoch: (epoch["validation_accuracy"], -epoch["epoch"]))
    assert found["best_accuracy"] == best["validation_accuracy"]
    assert found["last_loss"] == found["curve"][-1]["validation_loss"]
    assert found["images_per_s"] > 0
    assert site.files() == [".safetensors"]

    site.client.training_weights(training_id, tmp_path / f"training-{training_id}.safetensors")
    weights = load_file(tmp_path / f"training-{training_id}.safetensors")
    assert sum(part.numel() for part in weights.values()) == found["parameters"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        scope: Json = {}
        exec(found["snippet"], scope)
    with torch.inference_mode():
        assert scope["network"](torch.zeros(2, *INPUT)).shape == (2, 10)


def test_a_released_training_continues_with_the_same_curve(site: Site) -> None:
    sweep_id = site.add_sweep()
    first, second = (
        site.ask(sweep_id, {"by": "ids", "job_ids": [job]})["trainings"][0]["id"] for job in (1, 2)
    )
    site.worker().train(first)
    undisturbed = site.client.get_training(first)
    other = site.ask(sweep_id, {"by": "ids", "job_ids": [1]}, recipe={"epochs": 4, "seed": 1})
    assert other["created"] == 1
    with site.factory.begin() as session:  # the same network and recipe once more
        session.execute(text("UPDATE trainings SET job_id = 3 WHERE id = :id"), {"id": first})
        session.execute(text("UPDATE trainings SET job_id = 1 WHERE id = :id"), {"id": second})

    def in_the_fourth_epoch() -> bool:
        done = site.scalar(f"SELECT epochs_done FROM trainings WHERE id = {second}")
        return bool(done == 3)

    site.worker(should_stop=in_the_fourth_epoch).train(second)
    stopped = site.client.get_training(second)
    assert (stopped["status"], stopped["epochs_done"], stopped["attempt"]) == ("pending", 3, 0)
    assert ".checkpoint" in site.files()
    site.worker().train(second)
    resumed = site.client.get_training(second)
    assert resumed["status"] == "completed"
    assert curve(resumed) == curve(undisturbed)


def test_a_killed_training_ends_with_the_curve_of_an_undisturbed_one(site: Site) -> None:
    sweep_id = site.add_sweep()
    select = {"by": "ids", "job_ids": [1]}
    recipes = ({"epochs": 30, "checkpoint_epochs": every} for every in (30, 3))
    undisturbed, disturbed = (
        site.ask(sweep_id, select, recipe=recipe)["trainings"][0]["id"] for recipe in recipes
    )
    site.worker().train(undisturbed)
    database, folder = site.settings.database_url, site.settings.trainings
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.integration.trainings.lone_trainer",
            database,
            folder,
            str(disturbed),
        ]
    )
    while not any(folder.glob(f"training-{disturbed}-*.checkpoint")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    found = site.client.get_training(disturbed)
    assert found["status"] == "running"
    assert 3 <= found["epochs_done"] < 30
    with site.factory.begin() as session:
        session.execute(text("UPDATE leases SET expires_at = now() - interval '1 s'"))
        assert reap_expired_leases(session, max_attempts=3) == 1
    site.worker().train(disturbed)
    resumed = site.client.get_training(disturbed)
    assert (resumed["status"], resumed["attempt"], resumed["note"]) == ("completed", 2, None)
    assert curve(resumed) == curve(site.client.get_training(undisturbed))


def test_damaged_and_foreign_checkpoints_are_set_aside_and_the_training_begins_anew(
    site: Site,
) -> None:
    sweep_id = site.add_sweep()
    for training_id, damage in ((1, "bytes"), (2, "foreign")):
        site.ask(sweep_id, {"by": "ids", "job_ids": [training_id]})
        half_done(site, training_id)
        checkpoint = next(site.settings.trainings.glob(f"training-{training_id}-*.checkpoint"))
        if damage == "bytes":
            content = bytearray(checkpoint.read_bytes())
            content[len(content) // 2] ^= 1
            checkpoint.write_bytes(content)
        else:
            site.ask(sweep_id, {"by": "ids", "job_ids": [4]}, recipe={"seed": 9})
            half_done(site, 3)
            next(site.settings.trainings.glob("training-3-*.checkpoint")).replace(checkpoint)
        site.worker().train(training_id)
        found = site.client.get_training(training_id)
        assert (found["status"], found["epochs_done"]) == ("completed", 4)
        assert found["note"].startswith("Begun anew: training-")
        assert {"bytes": "damaged", "foreign": "another"}[damage] in found["note"]
        assert ".unusable" in site.files()


def test_a_training_that_goes_on_elsewhere_says_where_each_epoch_ran_and_no_rate_of_the_whole(
    site: Site,
) -> None:
    sweep_id = site.add_sweep()
    training_id = site.ask(sweep_id, {"by": "rank", "count": 1})["trainings"][0]["id"]
    half_done(site, training_id, device_model="Device A")
    assert site.client.get_training(training_id)["images_per_s"] > 0
    site.worker(device_model="Device B").train(training_id)
    found = site.client.get_training(training_id)
    assert [epoch["device"] for epoch in found["curve"]] == ["Device A"] * 2 + ["Device B"] * 2
    assert all(epoch["images_per_s"] > 0 for epoch in found["curve"])
    assert (found["device"], found["images_per_s"]) == ("Device B", None)


NO_MEMORY = {  # what PyTorch raises where there is none
    "torch.load": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4096 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "torch.optim.AdamW.load_state_dict": torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB."
    ),
}


@pytest.mark.parametrize("step", NO_MEMORY)
def test_a_checkpoint_for_which_there_is_no_memory_now_stays_for_the_next_attempt(
    step: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id = site.add_sweep()
    training_id = site.ask(sweep_id, {"by": "rank", "count": 1})["trainings"][0]["id"]
    half_done(site, training_id)

    def no_memory(*_: Any, **_more: Any) -> None:
        raise NO_MEMORY[step]

    with monkeypatch.context() as patch:
        patch.setattr(step, no_memory)
        site.worker().train(training_id)
    found = site.client.get_training(training_id)
    assert (found["status"], found["epochs_done"], found["attempt"]) == ("pending", 2, 1)
    assert "out_of_memory" in found["error"]
    assert site.files() == [".checkpoint"]
    site.worker().train(training_id)
    found = site.client.get_training(training_id)
    assert (found["status"], found["note"]) == ("completed", None)


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("statement", ["SET epochs_done = ", "SET status = 'completed'"])
def test_an_epoch_or_an_end_whose_commit_gets_no_answer_is_written_once_and_known(
    cut: Cut,
    statement: str,
    site: Site,
    proxy: CuttingProxy,
    far_sessions: SessionFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sweep_id = site.add_sweep()
    training_id = site.ask(sweep_id, {"by": "rank", "count": 1})["trainings"][0]["id"]
    trainer = site.worker(far_sessions)

    def cut_the_next_commit(*seen: Any) -> None:
        if statement in seen[2] and not proxy.cuts:
            proxy.cut = cut

    event.listen(far_sessions.kw["bind"], "before_cursor_execute", cut_the_next_commit)
    trainer.train(training_id)
    assert proxy.cuts == 1
    found = site.client.get_training(training_id)
    assert (found["status"], found["attempt"], found["note"]) == ("completed", 1, None)
    assert [epoch["epoch"] for epoch in found["curve"]] == [1, 2, 3, 4]
    assert site.files() == [".safetensors"]
    assert "training_dropped" not in caplog.text


def test_checkpoints_of_cancelled_trainings_and_old_leftovers_are_deleted_and_no_others(
    site: Site,
) -> None:
    sweep_id = site.add_sweep()
    for job in (1, 2, 3):
        site.ask(sweep_id, {"by": "ids", "job_ids": [job]})
    half_done(site, 1)
    half_done(site, 2)
    folder = site.settings.trainings
    foreign = folder / f"training-1-{'0' * 12}.checkpoint"  # another database's
    foreign.write_bytes(b"")
    new, old = (folder / f".training-9-{place}.checkpoint.x.part" for place in "ab")
    for partial in (new, old):
        partial.write_bytes(b"")
    os.utime(old, (time.time() - 2 * LEFTOVER_S,) * 2)
    site.client.control_training(1, "cancel")
    site.worker().train(3)
    left = {path.name.rpartition("-")[0] for path in folder.glob("*.checkpoint")}
    assert left == {"training-1", "training-2"}
    assert foreign.exists()
    assert (new.exists(), old.exists()) == (True, False)
    assert len(list(folder.glob("training-1-*.checkpoint"))) == 1


def half_done(site: Site, training_id: int, device_model: str | None = None) -> None:
    """Trains up to the first checkpoint and releases the training."""

    def has_checkpoint() -> bool:
        return any(site.settings.trainings.glob(f"training-{training_id}-*.checkpoint"))

    site.worker(device_model=device_model, should_stop=has_checkpoint).train(training_id)


@contextmanager
def no_room() -> Iterator[None]:
    """Lets the system refuse to write files of more than a kilobyte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_checkpoints_and_weights_never_the_results(site: Site) -> None:
    sweep_id = site.add_sweep()
    training_id = site.ask(sweep_id, {"by": "rank", "count": 1})["trainings"][0]["id"]
    trainer = site.worker()
    with no_room():
        trainer.train(training_id)
    found = site.client.get_training(training_id)
    assert (found["status"], found["epochs_done"], found["weights"]) == ("completed", 4, None)
    assert "could not be written" in found["note"]
    assert site.files() == []
    with pytest.raises(ApiError, match="could not be written") as refused:
        site.client.training_weights(training_id, site.settings.trainings / "x.safetensors")
    assert refused.value.code == "weights_missing"


def test_a_training_whose_worker_vanishes_is_handed_out_again_and_fails_after_its_last_attempt(
    site: Site,
) -> None:
    sweep_id = site.add_sweep()
    training_id = site.ask(sweep_id, {"by": "rank", "count": 1})["trainings"][0]["id"]
    for attempt in (1, 2):
        with site.factory() as session:
            worker_id = add_worker(session)
            token = uuid.uuid4()
            assert claim_training(session, training_id, worker_id=worker_id, token=token, lease_s=9)
            again = uuid.uuid4()
            assert not claim_training(
                session, training_id, worker_id=worker_id, token=again, lease_s=9
            )
            session.execute(text("UPDATE leases SET expires_at = now() - interval '1 s'"))
            session.commit()
            assert reap_expired_leases(session, max_attempts=2) == 1
            session.commit()
        found = site.client.get_training(training_id)
        assert found["status"] == ("pending" if attempt == 1 else "failed")
        assert "vanished" in found["error"]
    assert site.client.control_trainings(sweep_id, "retry") == 1
    site.worker().train(training_id)
    assert site.client.get_training(training_id)["status"] == "completed"


class Sent:
    """A queue that remembers."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, int]] = []
        self.trainings: list[int] = []

    def __len__(self) -> int:
        return 0

    def send(self, sweep_id: int, group: int) -> None:
        self.groups.append((sweep_id, group))

    def send_training(self, training_id: int) -> None:
        self.trainings.append(training_id)


def test_trainings_take_no_more_than_half_of_the_hints(site: Site, session: Session) -> None:
    sweep_id = site.add_sweep()
    site.ask(sweep_id, {"by": "rank", "count": 4})
    waiting = create_sweep(
        session,
        SearchSpace(layers=(LayerSpace(channels=(1, 2, 3, 4)), LayerSpace())),
        Protocol(dataset="digits", input_shape=(1, 32, 32)),
    )
    session.commit()
    sent = Sent()
    assert send_hints(session, sent, backlog=4, resend_s=60) == 4
    session.commit()
    assert sent.trainings == [1, 2]
    assert {sweep for sweep, _ in sent.groups} == {waiting.id}
    assert send_hints(session, sent, backlog=4, resend_s=60) == 4
    assert sent.trainings == [1, 2, 3, 4]


def test_the_one_place_in_a_full_queue_goes_to_trainings_and_sweeps_in_turns(
    site: Site, session: Session
) -> None:
    site.ask(site.add_sweep(), {"by": "rank", "count": 4})
    space = SearchSpace(layers=(LayerSpace(channels=(1, 2, 3, 4)), LayerSpace()))
    create_sweep(session, space, Protocol(dataset="digits", input_shape=(1, 32, 32)))
    session.commit()
    sent = Sent()
    for _ in range(60):  # hints are due again at once, so there is always one of either kind
        send_hints(session, sent, backlog=1, resend_s=0)
        session.commit()
    assert len(sent.trainings) > 10
    assert len(sent.groups) > 10


def test_trainings_are_paused_resumed_and_cancelled(site: Site) -> None:
    sweep_id = site.add_sweep()
    site.ask(sweep_id, {"by": "rank", "count": 2})
    with site.factory() as session:
        worker_id, token = add_worker(session), uuid.uuid4()
        claim_training(session, 1, worker_id=worker_id, token=token, lease_s=60)
        session.commit()
    assert site.client.control_trainings(sweep_id, "pause") == 2
    assert site.scalar("SELECT count(*) FROM leases WHERE ended_at IS NULL") == 0
    site.worker().train(1)
    assert site.client.get_training(1)["epochs_done"] == 0
    with site.factory.begin() as session:
        cancel_sweep(session, create_other(session))  # another sweep's end concerns no training
    assert site.client.control_training(1, "resume")["status"] == "pending"
    assert site.client.control_trainings(sweep_id, "cancel") == 2
    with pytest.raises(ApiError, match="it cannot resume") as refused:
        site.client.control_training(1, "resume")
    assert refused.value.code == "illegal_transition"


def create_other(session: Session) -> int:
    space = SearchSpace(layers=(LayerSpace(), LayerSpace()))
    return create_sweep(session, space, Protocol(dataset="digits", input_shape=(1, 32, 32))).id


def test_networks_are_chosen_by_rank_front_and_stratified_sample(site: Site) -> None:
    accuracies = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.5, 0.9]
    sweep_id = site.add_sweep(groups=2, accuracies=accuracies)

    def chosen(select: Json, **more: Any) -> list[int]:
        return [row["job_id"] for row in site.ask(sweep_id, select, **more)["trainings"]]

    assert chosen({"by": "rank", "count": 2}) == [8, 7]
    assert chosen({"by": "rank", "count": 9, "where": {"accuracy": "0.12..0.14"}}) == [5, 4, 3]
    assert chosen({"by": "pareto"}, recipe={"seed": 2}) == [8]
    sample = chosen({"by": "sample", "count": 4, "strata": 4}, recipe={"seed": 3})
    assert {7, 8} <= set(sample)  # the only ones in their strata
    assert len(sample) == 4
    assert sample == chosen({"by": "sample", "count": 4, "strata": 4}, recipe={"seed": 3})
    wide = site.ask(sweep_id, {"by": "ids", "job_ids": [1]}, channels=[4, 8], repeats=2)
    shown = [(row["layers"][0]["channels"], row["recipe"]["seed"]) for row in wide["trainings"]]
    assert shown == [(4, 0), (4, 1), (8, 0), (8, 1)]


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        ({"select": {"by": "ids", "job_ids": [99]}}, "invalid_input", "no job 99"),
        ({"select": {"by": "ids", "job_ids": [2]}}, "invalid_input", "job 2 is rejected"),
        ({"select": {"by": "rank", "count": 1, "where": {"accuracy": "0.99.."}}}, "no_results",
         "No job of sweep"),
        ({"select": {"by": "rank", "count": 1, "where": {"colour": "red"}}}, "unknown_filter",
         "Unknown filter"),
        ({"select": {"by": "luck"}}, "invalid_input", "by"),
        ({"select": {"by": "pareto"}, "seeds": [1], "repeats": 2}, "invalid_input", "not both"),
        ({"select": {"by": "pareto"}, "recipe": {"epochs": 2, "warmup_epochs": 2}},
         "invalid_input", "fewer than epochs"),
        ({"select": {"by": "pareto"}, "recipe": {"epoch": 2}}, "invalid_input", "epoch"),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused(
    site: Site, wanted: Json, code: str, message: str
) -> None:
    with site.factory() as session:
        space = SearchSpace(layers=(LayerSpace(), LayerSpace(kernel_size=(3, 5))))
        protocol = Protocol(dataset="digits", input_shape=(1, 32, 32), trials=1)
        sweep_id = create_sweep(session, space, protocol).id
        session.commit()
        complete(session, claimed(session, sweep_id), [success([trial(0)]), rejection(0)])
    with pytest.raises(ApiError, match=message) as refused:
        site.client.create_trainings(sweep_id, wanted)
    assert refused.value.code in (code, "no_results")


def test_a_loss_that_is_no_number_fails_the_training_at_once(site: Site) -> None:
    sweep_id = site.add_sweep()
    asked = site.ask(sweep_id, {"by": "rank", "count": 1}, recipe={"learning_rate": 1000.0})
    training_id = asked["trainings"][0]["id"]
    trainer = site.worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.engine.training.loop.learning_rate", lambda *_: 1e30)
        trainer.train(training_id)
    found = site.client.get_training(training_id)
    assert (found["status"], found["attempt"]) == ("failed", 1)
    assert "no number" in found["error"]


@pytest.mark.parametrize(("channels", "accepted"), [(1, True), (3, True), (2, False), (5, False)])
def test_augmentation_is_refused_for_images_that_it_cannot_change(
    site: Site, channels: int, accepted: bool
) -> None:
    sweep_id = site.add_sweep()
    with site.factory.begin() as session:
        shape = text("UPDATE sweeps SET protocol = protocol || CAST(:shape AS jsonb)")
        session.execute(shape, {"shape": json.dumps({"input_shape": [channels, 16, 16]})})
    select = {"by": "ids", "job_ids": [1]}
    assert site.ask(sweep_id, select, recipe={"augment": "none"})["created"] == 1
    augmented = {"augment": "trivial_wide"}
    if accepted:
        assert site.ask(sweep_id, select, recipe=augmented)["created"] == 1
        return
    with pytest.raises(ApiError, match=f"have {channels}; set augment to none") as refused:
        site.ask(sweep_id, select, recipe=augmented)
    assert (refused.value.status, refused.value.code) == (422, "invalid_input")


def test_the_ten_published_networks_have_their_parameters_in_the_table_at_both_widths(
    site: Site, tmp_path: Path
) -> None:
    published = json.loads(PUBLISHED.read_text())
    numbers = ("kernel_size", "stride", "dilation")
    layers = (
        LayerSpace(**{name: tuple(sorted({row[name][n] for row in published})) for name in numbers})
        for n in range(3)
    )
    space = SearchSpace(layers=tuple(layers))
    protocol = Protocol(dataset="digits", input_shape=(3, 96, 96), trials=1, order=Order.GRID)
    with site.factory() as session:
        sweep_id = create_sweep(session, space, protocol).id
        session.commit()
        condition = " AND ".join(f"{name} = CAST(:{name} AS smallint[])" for name in numbers)
        find = text(f"SELECT id FROM jobs WHERE sweep_id = :sweep AND {condition}")
        job_ids = []
        for row in published[:10]:
            fields = {name: row[name] for name in numbers}
            job_ids.append(session.execute(find, {"sweep": sweep_id, **fields}).scalar_one())
        done = text("UPDATE jobs SET status = 'completed', trials_done = 1 WHERE id = ANY(:ids)")
        session.execute(done, {"ids": job_ids})
        session.commit()
    recipe = {"epochs": 1, "train_images": 10, "validation_images": 10, "checkpoint_epochs": 9}
    asked = site.client.create_trainings(
        sweep_id,
        {"select": {"by": "ids", "job_ids": job_ids}, "recipe": recipe, "channels": [32, 128]},
    )
    trainer = site.worker()
    for row in asked["trainings"]:
        trainer.train(row["id"])
    with site.factory.begin() as session:
        session.execute(text("UPDATE environments SET device = '=1+1'"))
    site.client.training_table(sweep_id, tmp_path / "table.csv")
    table = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    found = sorted((int(row["channels"]), int(row["parameters"])) for row in table)
    assert found == sorted((row["channels"], row["parameters"]) for row in published)
    assert all(row["status"] == "completed" for row in table)
    assert {row["device"] for row in table} == {"'=1+1"}  # no formula for a spreadsheet
    site.client.training_table(sweep_id, tmp_path / "table.md")
    assert len((tmp_path / "table.md").read_text().splitlines()) == 22


def test_the_probe_is_compared_with_training(site: Site, tmp_path: Path) -> None:
    sweep_id = site.add_sweep(groups=2, accuracies=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    with pytest.raises(ApiError, match="Train more"):
        site.client.probe_vs_trained(sweep_id)
    site.ask(sweep_id, {"by": "rank", "count": 8}, recipe={"epochs": 1}, repeats=2)
    trained = {n: round(0.3 + 0.05 * n, 2) for n in range(8)}
    finish = text("""
        INSERT INTO training_epochs
        SELECT id, 1, 1, 0.5, 1, 0.3 + 0.05 * (job_id - 1) + 0.01 * (recipe->>'seed')::int, 0, 1, 9
        FROM trainings
    """)
    with site.factory.begin() as session:
        session.execute(finish)
        session.execute(text("UPDATE trainings SET status = 'completed', epochs_done = 1"))
    found = site.client.probe_vs_trained(sweep_id, 2)
    assert len(found) == 1
    assert (found[0]["networks"], found[0]["k"]) == (8, 2)
    accuracies = {one["job_id"] - 1: one["trained_accuracy"] for one in found[0]["points"]}
    assert accuracies == pytest.approx({n: value + 0.005 for n, value in trained.items()})
    probe = found[0]["predictions"]["probe_accuracy"]
    assert {name: figure["value"] for name, figure in probe.items()} == {
        "spearman": pytest.approx(1), "kendall": pytest.approx(1), "precision_at_k": 1,
    }  # fmt: skip
    assert set(found[0]["predictions"]) == {"probe_accuracy", "parameters", "flops", "ratio"}
    path = f"/v1/sweeps/{sweep_id}/probe-vs-trained.png"
    site.client.download(path, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
