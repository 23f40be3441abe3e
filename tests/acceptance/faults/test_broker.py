"""A broker that restarts, forgets, fills up, falls silent or says nonsense: only time is lost."""

import json
import time
import uuid
from typing import Any

import pytest

from shared.messaging.broker import QUEUE_NAME, REFUSED_BYTES, REFUSED_NAME
from shared.messaging.messages import EVALUATE_GROUP
from shared.messaging.queue import HintQueue, make_celery
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import Answers, check
from tests.acceptance.faults.site import LEASE_S, Broker, Proxy, Site, measured

PACE_S = 0.07
TOTAL = 64
IMAGES = 100


def test_flushall_costs_only_the_time_until_hints_are_sent_again(
    site: Site, broker: Broker, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    broker.client().flushall()
    flushed = time.monotonic()
    running = site.rows("SELECT token FROM leases WHERE ended_at IS NULL")
    site.wait(lambda: _claimed_since(site, [row.token for row in running]), "a new claim", 30)
    measured("work after FLUSHALL", time.monotonic() - flushed)
    site.wait_completed(sweep_id)
    assert site.attempts(sweep_id) == {1}
    check(site.database, sweep_id, undisturbed, IMAGES)


def _claimed_since(site: Site, tokens: list[uuid.UUID]) -> bool:
    statement = """
        SELECT FROM leases WHERE claimed_at > ALL
            (SELECT claimed_at FROM leases WHERE token = ANY(:tokens))
    """
    return bool(site.rows(statement, tokens=tokens))


def test_a_broker_restart_needs_no_restart_of_a_worker(
    site: Site, broker: Broker, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    dispatcher = site.start_dispatcher()
    worker = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    broker.stop()
    time.sleep(3)
    running = site.rows("SELECT token FROM leases")  # before: soon after it all may be claimed
    broker.start()
    restarted = time.monotonic()
    site.wait(lambda: _claimed_since(site, [row.token for row in running]), "a new claim", 60)
    measured("work after a broker restart", time.monotonic() - restarted)
    site.wait_completed(sweep_id)
    assert site.attempts(sweep_id) == {1}
    assert worker.alive
    assert dispatcher.alive
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.parametrize("fault", [pytest.param("stopped", marks=pytest.mark.faults), "silent"])
def test_while_the_broker_is_away_lost_jobs_are_taken_back_as_ever(
    site: Site, broker: Broker, undisturbed: Answers, fault: str
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    with Proxy(broker.port) as proxy:
        site.start_dispatcher(CONVSWEEP_BROKER_URL=broker.url(proxy.port))
        victim = site.start_worker({"pace_s": PACE_S})
        site.wait_running(sweep_id)
        broker.stop() if fault == "stopped" else proxy.silence()
        victim.kill()
        killed = time.monotonic()
        taken_back = "SELECT FROM attempts WHERE outcome = 'expired'"
        site.wait(lambda: bool(site.rows(taken_back)), "the reaper", LEASE_S + 3)
        measured(f"jobs taken back with the broker {fault}", time.monotonic() - killed)
        broker.start() if fault == "stopped" else proxy.open()
        site.start_worker()
        site.wait_completed(sweep_id)
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
@pytest.mark.parametrize("cut", ["partitioned", "half_open"])
def test_a_broker_that_falls_silent_is_found_again_without_a_restart(
    site: Site, broker: Broker, undisturbed: Answers, cut: str
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    with Proxy(broker.port) as proxy:
        through = {"CONVSWEEP_BROKER_URL": broker.url(proxy.port)}
        site.start_dispatcher(**through)
        worker = site.start_worker({"pace_s": PACE_S}, **through)
        site.wait_running(sweep_id)
        if cut == "partitioned":
            proxy.silence()
            time.sleep(20)
            proxy.open()
        else:
            proxy.strand()
        healed = time.monotonic()
        again = site.add_sweep(small_sweep())
        site.wait(lambda: site.finished(again) > 0, "progress", 60)
        measured(f"work after a broker was {cut}", time.monotonic() - healed)
        site.wait_completed(sweep_id)
        site.wait_completed(again)
        assert worker.alive
    for one in (sweep_id, again):
        assert site.attempts(one) == {1}
        check(site.database, one, undisturbed, IMAGES)


@pytest.mark.faults
def test_a_full_broker_stops_hints_and_nothing_else(
    site: Site, broker: Broker, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    client = broker.client()
    client.config_set("maxmemory-policy", "noeviction")
    dispatcher = site.start_dispatcher(CONVSWEEP_BACKLOG="1")
    worker = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    client.config_set("maxmemory", 1)
    site.wait(lambda: "dispatch_failed" in dispatcher.text(), "a refused hint")
    site.wait(lambda: site.counts(sweep_id)["running"] == 0, "the end of the groups underway")
    stopped = site.finished(sweep_id)
    assert 0 < stopped < TOTAL
    client.config_set("maxmemory", 0)
    freed = time.monotonic()
    site.wait(lambda: site.finished(sweep_id) > stopped, "progress", 60)
    measured("work after a full broker has room again", time.monotonic() - freed)
    site.wait_completed(sweep_id)
    assert site.attempts(sweep_id) == {1}
    assert dispatcher.alive
    assert worker.alive
    check(site.database, sweep_id, undisturbed, IMAGES)


def _message(kwargs: Any, task: str = EVALUATE_GROUP) -> dict[str, Any]:
    """Returns a message as Celery writes it to a Redis list, with any arguments."""
    return {
        "body": json.dumps([[], kwargs, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "argsrepr": "()"},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE_NAME},
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "utf-8",
        },
    }


def test_messages_of_any_content_end_no_worker_and_those_that_are_no_hints_are_kept_apart(
    site: Site, broker: Broker, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    client = broker.client()
    nonsense: list[Any] = [
        _message({"sweep_id": sweep_id}),
        _message({"sweep_id": "1; DROP TABLE jobs", "group": 0}),
        _message({"sweep_id": sweep_id, "group": -1}),
        _message({"sweep_id": 2**70, "group": 2**40}),
        _message({"sweep_id": 10**6, "group": 1}),
        _message({"sweep_id": sweep_id, "group": 10**6}),
        _message({"sweep_id": sweep_id, "group": 0}, task="os.system"),
        _message(None),
        _message([1, 2]),
        _message({}) | {"content-type": "application/x-python-serialize"},
        _message({}) | {"body": "{{{"},
        _message({}) | {"headers": {}},
        {},
        [],
        None,
        _message({"sweep_id": sweep_id, "group": 0}) | {"properties": {}},
    ]
    texts = [json.dumps(message).encode() for message in nonsense]
    refused = [b"x", b"", b"\xff\x00", b'{"a": ' * 5000, *texts]
    for text in refused:
        client.lpush(QUEUE_NAME, text)
    hints = HintQueue(make_celery(site.settings))
    for group in (*range(8), *range(8), *range(8)):
        hints.send(sweep_id, group)
    workers = [site.start_worker({"pace_s": 0.02}), site.start_worker({"pace_s": 0.02})]
    site.start_dispatcher()
    site.wait_completed(sweep_id)
    site.wait(lambda: len(hints) == 0, "an empty queue")
    assert all(worker.alive for worker in workers)
    assert site.attempts(sweep_id) == {1}
    kept = client.lrange(REFUSED_NAME, 0, -1)
    unknown = 2  # a sweep and a group that do not exist are hints
    assert len(kept) == len(refused) - unknown
    assert b"x" in kept
    assert max(map(len, kept)) == REFUSED_BYTES
    log = "".join(worker.text() for worker in workers)
    assert log.count("message_refused") == len(kept)
    check(site.database, sweep_id, undisturbed, IMAGES)
