"""A sweep with results, an API, and trainers for tests of trainings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import text

from convsweep import Client
from services.sweeps.creation import create_sweep
from shared.domain.protocol import Order, Protocol
from shared.domain.space import LayerSpace, SearchSpace
from shared.settings import Settings
from tests.conftest import SessionFactory
from tests.integration.scenario import add_worker, claimed, complete, success, trial
from worker.device import open_device
from worker.heartbeat import Heartbeat
from worker.lease_runner import LeaseRunner
from worker.metrics import WorkerMetrics
from worker.process import make_duties
from worker.training.trainer import Trainer

Json = dict[str, Any]
TINY: Json = {
    "epochs": 4,
    "train_images": 64,
    "validation_images": 40,
    "checkpoint_epochs": 2,
    "learning_rate": 0.01,
}
INPUT = (1, 16, 16)


class Site:
    """A sweep with results, an API, and workers on demand."""

    def __init__(self, settings: Settings, factory: SessionFactory, client: Client) -> None:
        self.settings, self.factory, self.client = settings, factory, client

    def add_sweep(self, groups: int = 1, accuracies: list[float] | None = None) -> int:
        """Adds a sweep of four networks a group, all completed, with the accuracies given."""
        space = SearchSpace(
            layers=(
                LayerSpace(channels=tuple(range(2, 2 + groups))),
                LayerSpace(channels=(3,), kernel_size=(3, 5), stride=(1, 2)),
            )
        )
        protocol = Protocol(dataset="digits", input_shape=INPUT, trials=1, order=Order.GRID)
        wanted = iter(accuracies or [])
        with self.factory() as session:
            sweep_id = create_sweep(session, space, protocol).id
            session.commit()
            for group in range(groups):
                claim = claimed(session, sweep_id, group)
                outcomes = [
                    success([trial(0, next(wanted, 0.5), 100.0 + job.id)]) for job in claim.jobs
                ]
                complete(session, claim, outcomes)
        return sweep_id

    def worker(
        self,
        factory: SessionFactory | None = None,
        device_model: str | None = None,
        should_stop: Callable[[], bool] | None = None,
        **changes: Any,
    ) -> Trainer:
        """Returns a trainer on this machine's CPU, which results call ``device_model``."""
        factory = factory or self.factory
        settings = self.settings.model_copy(update={"lease_s": 30.0} | changes)
        with self.factory() as session:
            worker_id = add_worker(session)
        beat = Heartbeat(factory, worker_id, lease_s=30, progress_deadline_s=600)
        device = replace(
            open_device("cpu", settings.runtime_dir),
            lock_path=self.settings.trainings.with_name("lock"),
        )
        device = replace(device, model=device_model or device.model)
        self.metrics = WorkerMetrics(str(worker_id), device)
        runner = LeaseRunner(
            settings, factory, beat, self.metrics, should_stop or (lambda: False),
            retry_pause_s=0.01,
        )  # fmt: skip
        return make_duties(settings, factory, device, worker_id, runner, self.metrics).trainer

    def ask(self, sweep_id: int, select: Json, **changes: Any) -> Json:
        recipe = TINY | changes.pop("recipe", {})
        return self.client.create_trainings(
            sweep_id, {"select": select, "recipe": recipe, **changes}
        )

    def scalar(self, query: str) -> Any:
        with self.factory() as session:
            return session.execute(text(query)).scalar_one()

    def files(self) -> list[str]:
        return sorted(path.suffix for path in self.settings.trainings.iterdir())
