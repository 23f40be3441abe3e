"""One worker per GPU: each is taken once, kept while its worker lives, and free afterwards."""

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leasing.device_leases import give_back_device, renew_device, take_device
from shared.domain.errors import StaleLeaseError
from tests.conftest import SessionFactory
from tests.integration.scenario import add_worker

GPUS = [f"GPU-{number}" for number in range(4)]


def take(
    session: Session, worker_id: uuid.UUID, gpus: list[str] = GPUS, *, each: int = 1, s: float = 60
) -> str | None:
    taken = take_device(session, worker_id, gpus, workers_per_device=each, lease_s=s)
    session.commit()
    return taken


def let_expire(session: Session) -> None:
    past = "clock_timestamp() - interval '1 second'"
    session.execute(text(f"UPDATE device_leases SET expires_at = {past}"))
    session.commit()


def take_at_once(sessions: SessionFactory, workers: int, each: int) -> list[str | None]:
    """Lets a number of workers ask for a GPU at the same moment."""
    start = threading.Barrier(workers)

    def ask(_number: int) -> str | None:
        with sessions() as session:
            worker_id = add_worker(session)
            start.wait()
            return take(session, worker_id, each=each)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(ask, range(workers)))


def test_workers_that_start_at_once_use_each_gpu_once_and_one_more_gets_none(
    sessions: SessionFactory,
) -> None:
    taken = take_at_once(sessions, len(GPUS) + 1, each=1)
    assert taken.count(None) == 1
    assert sorted(filter(None, taken)) == GPUS


def test_workers_share_a_gpu_as_often_as_allowed_and_no_more(sessions: SessionFactory) -> None:
    taken = take_at_once(sessions, 2 * len(GPUS) + 1, each=2)
    assert taken.count(None) == 1
    assert Counter(filter(None, taken)) == dict.fromkeys(GPUS, 2)


def test_a_free_gpu_comes_before_a_shared_one(session: Session) -> None:
    taken = [take(session, add_worker(session), each=2) for _ in GPUS]
    assert taken == GPUS


def test_a_gpu_whose_worker_vanished_is_free_when_its_lease_is_over(session: Session) -> None:
    first, second = add_worker(session), add_worker(session)
    assert take(session, first, GPUS[:1]) == "GPU-0"
    assert take(session, second, GPUS[:1]) is None
    let_expire(session)
    assert take(session, second, GPUS[:1]) == "GPU-0"
    with pytest.raises(StaleLeaseError, match="Another worker"):
        renew_device(session, first, 60)


def test_a_worker_that_is_late_keeps_its_gpu_if_it_is_still_free(session: Session) -> None:
    first, second = add_worker(session), add_worker(session)
    take(session, first, GPUS[:1])
    let_expire(session)
    renew_device(session, first, 60)
    session.commit()
    assert take(session, second, GPUS[:1]) is None


def test_a_gpu_that_is_given_back_is_free_at_once(session: Session) -> None:
    first, second = add_worker(session), add_worker(session)
    take(session, first, GPUS[:1])
    give_back_device(session, first)
    session.commit()
    assert take(session, second, GPUS[:1]) == "GPU-0"


def test_giving_a_gpu_back_frees_no_other(session: Session) -> None:
    first, second = add_worker(session), add_worker(session)
    assert [take(session, worker, GPUS[:2]) for worker in (first, second)] == GPUS[:2]
    give_back_device(session, first)
    session.commit()
    third = add_worker(session)
    assert take(session, third, GPUS[:2]) == "GPU-0"
    assert take(session, add_worker(session), GPUS[:2]) is None
    renew_device(session, second, 60)
