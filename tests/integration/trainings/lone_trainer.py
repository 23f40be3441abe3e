"""A process of its own that works on one training, for tests that kill it."""

import os
import socket
import sys
import uuid
from dataclasses import replace
from pathlib import Path

from services.monitoring.workers import register_worker
from shared.db.session import make_engine, make_session_factory
from shared.settings import Settings
from worker.device import open_device
from worker.heartbeat import Heartbeat
from worker.lease_runner import LeaseRunner
from worker.metrics import WorkerMetrics
from worker.process import make_duties


def main() -> None:
    """Works on the training that the arguments name: database, folder, id."""
    url, folder, training_id = sys.argv[1:]
    settings = Settings(database_url=url, training_dir=Path(folder), lease_s=30)
    factory = make_session_factory(make_engine(settings, pool_size=2))
    worker_id = uuid.uuid4()
    device = replace(
        open_device("cpu", settings.runtime_dir), lock_path=Path(folder).with_name("lock")
    )
    with factory.begin() as session:
        register_worker(
            session, worker_id, hostname=socket.gethostname(), pid=os.getpid(),
            device_class="cpu", device=device.model, code_version="1",
        )  # fmt: skip
    beat = Heartbeat(factory, worker_id, lease_s=30, progress_deadline_s=600)
    beat.start()
    metrics = WorkerMetrics(str(worker_id), device)
    runner = LeaseRunner(settings, factory, beat, metrics, lambda: False)
    duties = make_duties(settings, factory, device, worker_id, runner, metrics)
    duties.trainer.train(int(training_id))
    beat.stop()


if __name__ == "__main__":
    main()
