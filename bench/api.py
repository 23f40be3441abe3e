"""``python -m bench.api``: how fast results are read over HTTP, also while more arrive.

Real embedded Postgres, a real uvicorn process. One client asks one request after the other for the
latencies, four at once for the requests per second.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import typer
from sqlalchemy import text

from bench.queue import machine
from bench.result_rows import add_published_sweep, add_sweep
from bench.servers import free_port, running_api, running_servers
from services.access.keys import create_key
from shared.db.session import make_engine, make_session_factory
from shared.domain.access import KeyScope
from shared.settings import Settings, child_environment

FILTERED = "accuracy=0.3..&throughput=1000.."
# name: path below /v1/sweeps/ID and query; one that is answered 404 is left out
REQUESTS = {
    "leaderboard": f"/leaderboard?{FILTERED}&page_size=50",
    "leaderboard_by_layer": "/leaderboard?kernel_size[0]=7&stride[1]=1|2&page_size=50",
    "leaderboard_by_throughput": "/leaderboard?accuracy=0.35..&sort=-throughput&page_size=50",
    "leaderboard_by_fitness": f"/leaderboard?{FILTERED}&sort=-fitness&page_size=50",
    "deep_page": f"/leaderboard?{FILTERED}&page_size=50&page_token={{token}}",
    "status": "",
    "analysis": "/analysis/correlations",
}
UNDER_WRITES = ("leaderboard", "leaderboard_by_layer", "deep_page", "status")
WRITES_PER_S = 2000
DEEP_PAGES = 40  # of a 300th of all rows, 1,000 at most, before the deep page
WARM_UP = 5


def measure(client: httpx.Client, path: str, seconds: float) -> dict[str, float] | None:
    """Returns latencies of one request after the other; None where there is no such page."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    for count in range(100_000):
        started = time.perf_counter()
        answer = client.get(path)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        if count >= WARM_UP:
            taken.append(1000 * (time.perf_counter() - started))
        if time.perf_counter() > ends and len(taken) >= 20:
            break
    return {f"p{q}_ms": round(float(np.percentile(taken, q)), 2) for q in (50, 95, 99)}


def requests_per_s(client: httpx.Client, path: str, seconds: float, clients: int = 4) -> float:
    """Returns how many requests a second four clients at once get answered."""
    ends = time.perf_counter() + seconds

    def ask(_: int) -> int:
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            done = 0
            while time.perf_counter() < ends:
                own.get(path).raise_for_status()
                done += 1
            return done

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = sum(pool.map(ask, range(clients)))
    return round(done / (time.perf_counter() - started), 1)


@contextmanager
def writing(settings: Settings, sweep: int, first: int, groups: int) -> Iterator[list[float]]:
    """Runs a process that writes results; the list has its rate at the end."""
    command = [sys.executable, "-m", "bench.result_rows", str(sweep), str(first), str(groups)]
    writer = subprocess.Popen(
        [*command, str(WRITES_PER_S)], env=child_environment(settings), stdout=subprocess.PIPE
    )
    rate: list[float] = []
    time.sleep(1.5)  # until it writes
    yield rate
    assert writer.poll() is None, "the writer had too little to do"
    rate.append(float(writer.communicate()[0]))


def deep_token(client: httpx.Client, base: str, rows: int) -> str:
    """Returns a token of a place many pages down."""
    token, size = "", min(1000, rows // 300)
    for _ in range(DEEP_PAGES):
        place = f"&page_token={token}" if token else ""
        answer = client.get(f"{base}/leaderboard?{FILTERED}&page_size={size}{place}")
        token = answer.raise_for_status().json()["next_page_token"]
    return token


def measure_sweep(
    client: httpx.Client, settings: Settings, sweep: int, groups: int, rows: int, seconds: float
) -> dict[str, float]:
    """Returns every figure of one sweep, first without a writer, then beside one."""
    base = f"/v1/sweeps/{sweep}"
    paths = {name: base + path for name, path in REQUESTS.items()}
    paths["deep_page"] = paths["deep_page"].format(token=deep_token(client, base, rows))
    found: dict[str, float] = {}
    for name, path in paths.items():
        latencies = measure(client, path, seconds)
        if latencies is not None:
            rps = requests_per_s(client, path, seconds / 2)
            found |= {f"{name}.{key}": value for key, value in latencies.items()}
            found[f"{name}.rps"] = rps
    needed = len(UNDER_WRITES) * (seconds + 2) + 3
    with writing(settings, sweep, 0, min(groups, int(needed * WRITES_PER_S / 36) + 1)) as rate:
        for name in UNDER_WRITES:
            latencies = measure(client, paths[name], seconds)
            assert latencies is not None
            found |= {f"{name}_under_writes.{key}": value for key, value in latencies.items()}
    return found | {"written_per_s": round(rate[0], 1)}


@contextmanager
def abusing(url: str, key: str, sweep: int) -> Iterator[dict[str, int]]:
    """Runs a process that asks for as much as one key can; the dictionary has its answers."""
    command = [sys.executable, "-m", "bench.abuse", url, str(sweep)]
    abuser = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert abuser.stdin is not None
    abuser.stdin.write(key + "\n")
    abuser.stdin.flush()
    time.sleep(5)  # until the processes that compute have started and all streams are open
    answers: dict[str, int] = {}
    yield answers
    assert abuser.poll() is None
    abuser.terminate()
    answers |= json.loads(abuser.communicate(timeout=180)[0])


def measure_abuse(seconds: float) -> dict[str, float]:
    """Returns latencies of a leaderboard page and of health, quiet and beside one abusive key."""
    figures: dict[str, float] = {}
    with running_servers() as servers, ExitStack() as stack:
        # without the rate limit, which would end the abuse after seconds
        keyed = {"api_keys": "required", "reads_per_minute": 0}
        filler = stack.enter_context(running_api(servers))
        engine = make_engine(servers, pool_size=1)
        sweep, _ = add_published_sweep(filler, engine)
        settle(servers)
        with make_session_factory(engine).begin() as session:
            abuser, reader = (create_key(session, name, KeyScope.READ)[0] for name in "ab")
        engine.dispose()
        settings = servers.model_copy(update=keyed | {"api_port": free_port()})
        client = stack.enter_context(running_api(settings))
        client.headers["Authorization"] = f"Bearer {reader}"
        paths = {
            "leaderboard": f"/v1/sweeps/{sweep}{REQUESTS['leaderboard']}", "healthz": "/healthz"
        }  # fmt: skip
        for name, path in paths.items():
            figures |= _named(f"{name}_quiet", measure_paced(client, path, seconds))
        with abusing(str(client.base_url), abuser, sweep) as answers:
            for name, path in paths.items():
                figures |= _named(f"{name}_under_abuse", measure_paced(client, path, seconds))
        for name in paths:
            ratio = figures[f"{name}_under_abuse.p95_ms"] / figures[f"{name}_quiet.p95_ms"]
            figures[f"{name}.p95_ratio"] = round(ratio, 2)
    return figures | {f"abuser_answers.{status}": count for status, count in answers.items()}


def measure_paced(client: httpx.Client, path: str, seconds: float) -> dict[str, float]:
    """Returns latencies of a request every 25 ms, as several people at their pages ask."""
    taken: list[float] = []
    for _ in range(max(40, int(seconds * 40))):
        started = time.perf_counter()
        client.get(path).raise_for_status()
        taken.append(1000 * (time.perf_counter() - started))
        time.sleep(max(0.0, 0.025 - taken[-1] / 1000))
    return {f"p{q}_ms": round(float(np.percentile(taken[WARM_UP:], q)), 2) for q in (50, 95, 99)}


def _named(name: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{name}.{key}": value for key, value in figures.items()}


def measure_export(client: httpx.Client, sweep: int) -> dict[str, float]:
    """Returns rows per second of a whole CSV, and the API's memory meanwhile."""
    api = next(
        child
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[-2:] == ["-m", "api"]
    )
    before, peak, done = api.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, api.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, lines = time.perf_counter(), 0
    with client.stream("GET", f"/v1/sweeps/{sweep}/export.csv") as answer:
        for piece in answer.iter_bytes():
            lines += piece.count(b"\n")
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {
        "export_rows": lines - 1,
        "export_rows_per_s": round((lines - 1) / seconds),
        "export_peak_mb": round(peak / 2**20, 1),
        "export_grown_mb": round((peak - before) / 2**20, 1),
    }


def settle(settings: Settings) -> None:
    """Does now what Postgres does by itself within a minute."""
    engine = make_engine(settings, pool_size=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM (ANALYZE) jobs"))
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


def main(
    rows: Annotated[str, typer.Option(help="Results per sweep, comma-separated.")] = "46656",
    seconds: Annotated[float, typer.Option(min=0.5, help="Per request.")] = 4.0,
    under_abuse: Annotated[
        bool, typer.Option(help="Measure only a page and health beside one abusive key.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Measures reading results over HTTP at several sizes, without and under writes."""
    found: dict[str, Any] = {"machine": machine()}
    if under_abuse:
        found |= measure_abuse(seconds)
        print(json.dumps(found, indent=None if as_json else 2))
        return
    note: Callable[..., None] = lambda *_: None if as_json else print(*_, file=sys.stderr)  # noqa: E731
    with running_servers() as settings, running_api(settings) as client:
        engine = make_engine(settings, pool_size=1)
        for size in map(int, rows.split(",")):
            started = time.perf_counter()
            pending = int(1.2 * WRITES_PER_S * (len(UNDER_WRITES) * (seconds + 2) + 3))
            sweep, groups = add_sweep(client, engine, size, pending)
            settle(settings)
            note(f"{size} rows are there after {time.perf_counter() - started:.0f} s")
            figures = measure_sweep(client, settings, sweep, groups, size, seconds)
            found |= {f"{size}.{name}": value for name, value in figures.items()}
            found |= measure_export(client, sweep)
        engine.dispose()
    print(json.dumps(found, indent=None if as_json else 2))


if __name__ == "__main__":
    typer.run(main)
