"""The worker's way from a hint to a training, on a real Postgres that loses answers."""

import time
import uuid
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from convsweep import ApiError
from services.dispatching.dispatch import send_hints
from services.leasing.training_leases import claim_training, decline_training, fail_training
from shared.domain.status import TrainingStatus
from tests.conftest import SessionFactory
from tests.integration.database.cutting_proxy import Cut, CuttingProxy
from tests.integration.leasing.test_execution import write_dataset
from tests.integration.scenario import add_worker
from tests.integration.trainings.site import INPUT, Site
from tests.integration.trainings.test_trainings import Sent
from worker.metrics import ENDS


def create(site: Site, count: int) -> list[int]:
    """Creates trainings of the best networks of a new sweep; returns their ids."""
    created = site.ask(site.add_sweep(), {"by": "rank", "count": count})
    return [row["id"] for row in created["trainings"]]


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    value = registry.get_sample_value(name, labels)
    assert value is not None
    return value


def ends(site: Site) -> dict[str, float]:
    """Returns how the claims of the newest worker ended."""
    name = "convsweep_worker_trainings_total"
    return {end: sample(site.metrics.registry, name, end=end) for end in ENDS}


@pytest.mark.parametrize("cut", Cut)
def test_training_claim_whose_commit_gets_no_answer_consumes_no_attempt(
    cut: Cut, site: Site, proxy: CuttingProxy, far_sessions: SessionFactory
) -> None:
    (training_id,) = create(site, 1)
    trainer = site.worker(far_sessions)
    proxy.cut = cut
    with pytest.raises(OperationalError):
        trainer.train(training_id)
    assert proxy.cuts == 1
    training = site.client.get_training(training_id)
    assert (training["status"], training["attempt"]) == ("pending", 0)
    assert site.scalar("SELECT count(*) FROM leases WHERE ended_at IS NULL") == 0
    trainer.train(training_id)
    training = site.client.get_training(training_id)
    assert (training["status"], training["attempt"]) == ("completed", 1)


def test_training_that_a_worker_cannot_serve_is_deferred_and_not_claimed(site: Site) -> None:
    training_id = create(site, 1)[0]
    with site.factory.begin() as session:
        session.execute(text("UPDATE trainings SET hinted_at = now() - interval '1 hour'"))
        session.execute(text("""UPDATE sweeps SET protocol = protocol || '{"dataset": "mine"}'"""))
    site.worker().train(training_id)
    assert site.client.get_training(training_id)["status"] == "pending"
    assert site.scalar("SELECT count(*) FROM leases WHERE group_index IS NULL") == 0
    assert site.scalar("SELECT hinted_at > now() - interval '1 minute' FROM trainings")
    assert "mine.npz" in site.scalar("SELECT problem FROM worker_problems")


def test_trainings_that_need_the_same_images_cost_one_look_until_the_resend_time_and_no_pause(
    site: Site, tmp_path: Path
) -> None:
    first, *others = create(site, 3)
    with site.factory.begin() as session:
        session.execute(text("""UPDATE sweeps SET protocol = protocol || '{"dataset": "mine"}'"""))
    trainer = site.worker(data_dir=tmp_path, resend_s=60.0)
    trainer.train(first)
    started = time.monotonic()
    write_dataset(tmp_path, seed=1, shape=INPUT)  # a second look would find it
    for training_id in others * 8:
        trainer.train(training_id)
    assert time.monotonic() - started < 4
    assert site.scalar("SELECT count(*) FROM trainings WHERE status = 'pending'") == 3
    assert site.scalar("SELECT count(*) FROM worker_problems") == 3
    site.worker(data_dir=tmp_path).train(first)
    assert site.client.get_training(first)["status"] == "completed"


def test_hint_of_a_cancelled_training_costs_no_look_at_its_images(site: Site) -> None:
    (training_id,) = create(site, 1)
    with site.factory.begin() as session:
        session.execute(text("""UPDATE sweeps SET protocol = protocol || '{"dataset": "mine"}'"""))
    site.client.control_training(training_id, "cancel")
    site.worker().train(training_id)
    assert site.scalar("SELECT count(*) FROM worker_problems") == 0


def test_failing_a_training_returns_it_once_and_not_after_its_lease(site: Site) -> None:
    (training_id,) = create(site, 1)
    token = uuid.uuid4()
    with site.factory() as session:
        worker = add_worker(session)
    with site.factory.begin() as session:
        assert claim_training(session, training_id, worker_id=worker, token=token, lease_s=60)
        assert fail_training(session, token, error="broke", max_attempts=3) == 1
    training = site.client.get_training(training_id)
    assert (training["status"], training["attempt"]) == ("pending", 1)
    with site.factory.begin() as session:
        assert fail_training(session, token, error="again", max_attempts=1) == 0
    assert site.client.get_training(training_id) == training


def test_training_that_no_worker_can_serve_does_not_keep_others_waiting(site: Site) -> None:
    refused, *others = create(site, 3)
    sent = Sent()
    for _ in others:
        with site.factory.begin() as session:
            decline_training(session, refused)
            send_hints(session, sent, backlog=2, resend_s=0)  # at most one training in each round
    assert sent.trainings == others


def test_worker_counts_trainings_by_how_they_ended_and_the_time_of_their_epochs(
    site: Site,
) -> None:
    completed, released, failed = create(site, 3)
    site.worker().train(completed)
    assert ends(site) == {"completed": 1, "released": 0, "stale": 0, "failed": 0}
    assert sample(site.metrics.registry, "convsweep_worker_epoch_seconds_count") == 4
    assert sample(site.metrics.registry, "convsweep_worker_epoch_seconds_sum") > 0
    assert sample(site.metrics.registry, "convsweep_worker_busy") == 0
    site.worker(should_stop=lambda: True).train(released)
    assert ends(site)["released"] == 1
    worker = site.worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.engine.training.loop.learning_rate", lambda *_: 1e30)
        worker.train(failed)
    assert ends(site)["failed"] == 1


def test_worker_counts_a_training_that_was_cancelled_meanwhile(site: Site) -> None:
    (training_id,) = create(site, 1)

    def cancel() -> bool:
        site.client.control_training(training_id, "cancel")
        return False

    site.worker(should_stop=cancel).train(training_id)
    assert ends(site)["stale"] == 1
    assert site.client.get_training(training_id)["epochs_done"] == 0


AFTER_ACTION = {  # by the state before and the action; all other actions are refused
    ("pending", "pause"): "paused",
    ("pending", "cancel"): "cancelled",
    ("running", "pause"): "paused",
    ("running", "cancel"): "cancelled",
    ("paused", "resume"): "pending",
    ("paused", "cancel"): "cancelled",
    ("failed", "retry"): "pending",
}
TARGETS = {"pause": "paused", "resume": "pending", "cancel": "cancelled", "retry": "pending"}


@pytest.mark.parametrize("before", list(TrainingStatus))
def test_an_action_changes_a_training_only_from_the_states_it_applies_to(
    before: TrainingStatus, site: Site
) -> None:
    (training_id,) = create(site, 1)
    for action, target in TARGETS.items():
        put_into(site, training_id, before)
        after = AFTER_ACTION.get((before, action))
        if after is None and before != target:
            with pytest.raises(ApiError, match=f"is {before}: it cannot {action}"):
                site.client.control_training(training_id, action)
        else:
            site.client.control_training(training_id, action)
        assert site.client.get_training(training_id)["status"] == (after or before)


def put_into(site: Site, training_id: int, status: TrainingStatus) -> None:
    """Puts a training into a state, whatever it was before."""
    with site.factory() as session:
        worker_id = add_worker(session)
    with site.factory.begin() as session:
        session.execute(text("UPDATE trainings SET status = 'pending', lease_token = NULL"))
        if status is TrainingStatus.RUNNING:
            claim_training(
                session, training_id, worker_id=worker_id, token=uuid.uuid4(), lease_s=60
            )
        elif status is not TrainingStatus.PENDING:
            session.execute(
                text("UPDATE trainings SET status = :status, epochs_done = epochs"),
                {"status": status},
            )
