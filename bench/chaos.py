"""``python -m bench.chaos --minutes 10 --seed 1``: sweeps under random faults.

Workers, dispatcher, broker, Postgres and their connections are killed, stopped and emptied by a
seeded plan while sweeps run: a fault of a random kind every 20 s on average. Copies of the same
sweep run on the same servers without faults before and after. Prints JSON: ``rate_share`` is the
jobs per second under faults over those without, both runs without taken together; ``lost`` counts
jobs without the result that they have undisturbed, ``duplicates`` those completed more than once.
"""

import argparse
import json
import math
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.exc import OperationalError

from shared.settings import Settings
from tests.acceptance.faults.invariants import Answers, answers, broken, differing
from tests.acceptance.faults.site import Broker, Child, Postgres, Site
from tests.conftest import migrate
from worker.engine.data.digits import read_digits

LEASE_S = 5.0
RESEND_S = 3.0
MEAN_GAP_S = 20.0
REVIVAL_S = 0.5  # as the supervisor of `convsweep up` looks
DATASET, INPUT_SHAPE = "pictures", (3, 24, 24)
IMAGES = 200
SHORT = 8  # channels of the sweep that says how long one takes
SWEEP_S = 45.0  # what one of the equal sweeps takes, roughly
LIMIT_S = 4 * 3600.0

Json = dict[str, Any]


def sweep_of(channels: int) -> Json:
    """Returns a sweep of 16 * channels^2 architectures with two layers, all of them valid."""
    layer = {"channels": list(range(4, 4 + channels)), "kernel_size": [3, 5], "stride": [1, 2]}
    return {
        "space": {"layers": [layer, layer]},
        "protocol": {
            "dataset": DATASET,
            "train_images": IMAGES,
            "validation_images": IMAGES,
            "input_shape": [*INPUT_SHAPE],
            "trials": 3,
            "timing": None,
            "gates": {"max_ratio": None},
        },
    }


def write_pictures(data_dir: Path) -> None:
    """Writes the digits as a file, as people bring their own images."""
    data_dir.mkdir(parents=True)
    train, test = read_digits(INPUT_SHAPE)
    train_x, test_x = ((255 * split.images).astype(np.uint8) for split in (train, test))
    path = data_dir / f"{DATASET}.npz"
    np.savez(path, train_x=train_x, train_y=train.labels, test_x=test_x, test_y=test.labels)


class Fleet:
    """A dispatcher and workers that are started again when they have died."""

    def __init__(self, site: Site, workers: int) -> None:
        self._site = site
        self._ended = threading.Event()
        self._starts: list[Callable[[], Child]] = [site.start_dispatcher]
        self._starts += [site.start_worker] * workers
        self.children = [start() for start in self._starts]
        self._thread = threading.Thread(target=self._revive, daemon=True)
        self._thread.start()

    def _revive(self) -> None:
        while not self._ended.wait(REVIVAL_S):
            for place, start in enumerate(self._starts):
                if not self.children[place].alive:
                    self.children[place] = start()

    @property
    def dispatcher(self) -> Child:
        return self.children[0]

    @property
    def workers(self) -> list[Child]:
        return self.children[1:]

    def stop(self) -> None:
        """Ends every process."""
        self._ended.set()
        self._thread.join()
        for child in self.children:
            child.kill()


class Chaos:
    """Faults by a seeded plan, one after another, until asked to stop."""

    def __init__(
        self, site: Site, fleet: Fleet, postgres: Postgres, broker: Broker, seed: int, gap_s: float
    ) -> None:
        self._site, self.fleet = site, fleet
        self._postgres, self._broker = postgres, broker
        self._random, self._gap_s = random.Random(seed), gap_s
        self._ended = threading.Event()
        self.done: Counter[str] = Counter()
        self._faults: dict[str, Callable[[], object]] = {
            "worker_killed": lambda: self._worker().kill(),
            "worker_stopped_beyond_its_lease": self._stop_worker,
            "worker_asked_to_end": lambda: self._worker().stop(),
            "dispatcher_killed": self._kill_dispatcher,
            "broker_flushed": lambda: self._broker.client().flushall(),
            "broker_restarted": self._restart_broker,
            "connections_terminated": self._terminate_connections,
            "postgres_killed": self._kill_postgres,
        }

    def run(self) -> None:
        """Injects faults until ``stop``; every kind comes once before any comes again."""
        while True:
            kinds = list(self._faults)
            self._random.shuffle(kinds)
            for kind in kinds:
                if self._ended.wait(self._random.uniform(0.5, 1.5) * self._gap_s):
                    return
                self._faults[kind]()
                self.done[kind] += 1

    def stop(self) -> None:
        self._ended.set()

    def _worker(self) -> Child:
        return self._random.choice(self.fleet.workers)

    def _kill_dispatcher(self) -> None:
        self.fleet.dispatcher.kill()

    def _stop_worker(self) -> None:
        worker = self._worker()
        with suppress(ProcessLookupError):  # it has just ended
            worker.send(signal.SIGSTOP)
            time.sleep(LEASE_S + 3)
            worker.send(signal.SIGCONT)

    def _restart_broker(self) -> None:
        self._broker.stop()
        time.sleep(1)
        self._broker.start()

    def _terminate_connections(self) -> None:
        self._site.rows("""
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'convsweep'
        """)

    def _kill_postgres(self) -> None:
        self._postgres.kill()
        self._postgres.start()


def completed(site: Site, channels: int, sweeps: int = 1) -> tuple[list[int], float]:
    """Runs equal sweeps side by side to their end; returns their ids and the seconds they took."""
    ids = [site.add_sweep(sweep_of(channels)) for _ in range(sweeps)]
    started = time.monotonic()
    while time.monotonic() - started < LIMIT_S:
        time.sleep(0.1)
        with suppress(OperationalError):  # Postgres may be away just now
            if all(site.status(one) == "completed" for one in ids):
                return ids, time.monotonic() - started
    raise TimeoutError(f"Sweeps {ids} have not ended after {LIMIT_S:.0f} s.\n{site.logs()}")


def compare(site: Site, undisturbed: Answers, disturbed: list[int]) -> Json:
    """Returns what the disturbed sweeps have lost, doubled or answered otherwise."""
    found = [answers(site.database, one) for one in disturbed]
    [again] = site.rows(
        """
        SELECT count(*) AS jobs FROM (
            SELECT job_id FROM attempts JOIN jobs ON jobs.id = job_id
            WHERE sweep_id = ANY(:ids) AND outcome IN ('completed', 'invalid', 'rejected')
            GROUP BY job_id HAVING count(*) > 1
        ) twice
        """,
        ids=disturbed,
    )
    [retried] = site.rows(
        "SELECT count(*) AS jobs FROM jobs WHERE sweep_id = ANY(:ids) AND attempt > 1",
        ids=disturbed,
    )
    return {
        "lost": sum(len({key[0] for key in undisturbed.keys() - one.keys()}) for one in found),
        "duplicates": again.jobs,
        "retried": retried.jobs,
        "broken": [fault for one in disturbed for fault in broken(site.database, one)],
        "differing_images": max(differing(one, undisturbed, IMAGES) for one in found),
    }


def run(
    folder: Path, *, minutes: float, seed: int, workers: int = 2, gap_s: float = MEAN_GAP_S
) -> Json:
    """Runs sweeps without and with faults, with ``folder`` for everything; returns the figures.

    Args:
        minutes: how long the disturbed sweeps would take undisturbed, roughly.
        gap_s: seconds between two faults, on average.
    """
    postgres, broker = Postgres(folder / "pg"), Broker(folder / "valkey")
    settings = Settings(
        database_url=postgres.url(),
        broker_url=broker.url(),
        data_dir=folder / "data",
        lease_s=LEASE_S,
        resend_s=RESEND_S,
    )
    write_pictures(settings.data_dir)
    migrate(settings)
    site = Site(folder, settings, postgres.url())
    fleet = Fleet(site, workers)
    try:
        chaos = Chaos(site, fleet, postgres, broker, seed, gap_s)
        return measure(site, chaos, minutes) | {"mean_gap_s": gap_s}
    finally:
        fleet.stop()
        site.close()
        broker.stop()
        postgres.stop("immediate")


def measure(site: Site, chaos: Chaos, minutes: float) -> Json:
    """Sizes a sweep by a short one, then runs copies of it without, with and without faults."""
    completed(site, 1)  # the workers have started
    _, short_s = completed(site, SHORT)
    channels = max(SHORT, round(SHORT * math.sqrt(min(SWEEP_S, 60 * minutes) / short_s)))
    reference = 2 if minutes > 2 else 1
    [undisturbed, *_], before_s = completed(site, channels, reference)
    copies = max(1, round(60 * minutes * reference / before_s))
    with ThreadPoolExecutor() as pool:
        faults = pool.submit(chaos.run)
        try:
            disturbed, chaotic_s = completed(site, channels, copies)
        finally:
            chaos.stop()
        faults.result()
    site.wait_registered(*chaos.fleet.workers)
    _, after_s = completed(site, channels, reference)
    jobs = 16 * channels**2
    calm_rate = 2 * reference * jobs / (before_s + after_s)
    return {
        "faults": chaos.done.total(),
        "jobs": copies * jobs,
        "rate_share": round(copies * jobs / chaotic_s / calm_rate, 3),
        **compare(site, answers(site.database, undisturbed), disturbed),
        "disturbed_s": round(chaotic_s, 1),
        "jobs_per_s": {
            "before": round(reference * jobs / before_s, 1),
            "disturbed": round(copies * jobs / chaotic_s, 1),
            "after": round(reference * jobs / after_s, 1),
        },
        "kinds": dict(sorted(chaos.done.items())),
    }


def main() -> None:
    """Reads the options, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of work under faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gap", type=float, default=MEAN_GAP_S, help="seconds between faults")
    parser.add_argument("--json", action="store_true", help="on one line")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    try:
        figures = run(
            folder,
            minutes=options.minutes,
            seed=options.seed,
            workers=options.workers,
            gap_s=options.gap,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures |= {"seed": options.seed, "workers": options.workers}
    print(json.dumps(figures, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
