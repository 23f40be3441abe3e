"""``python -m bench.abuse URL SWEEP``: requests of one read key that cost as much as they can.

48 clients at once ask for previews of ten million architectures, plots, analyses and whole columns,
again as soon as they are answered, whatever the answer; 50 event streams stay open beside them.
Reads the key from standard input; prints the number of answers by status after SIGTERM.
"""

import json
import signal
import sys
import threading
from collections import Counter
from itertools import cycle

import httpx

CLIENTS, STREAMS = 48, 50
OPTIONS = {"channels": list(range(1, 257)), "kernel_size": list(range(1, 256))}
PREVIEWS = (
    {"layers": [OPTIONS] * 4, "depths": [1]},
    {"layers": [OPTIONS] * 2, "depths": [1]},
    {"layers": [{"channels": list(range(1, 3163))}] * 2},
)
READS = (
    "plots/parallel.png", "plots/scatter.svg", "analysis/interactions", "points",
    "analysis/importance?target=throughput", "plots/correlations.png",
)  # fmt: skip


def ask(url: str, key: dict[str, str], sweep: int, stop: threading.Event) -> Counter[int]:
    """Returns the number of answers by status; 0 where none came."""
    statuses: Counter[int] = Counter()
    kinds = cycle([*PREVIEWS, *READS])
    with httpx.Client(base_url=url, headers=key, timeout=120) as client:
        while not stop.is_set():
            kind = next(kinds)
            try:
                if isinstance(kind, str):
                    answer = client.get(f"/v1/sweeps/{sweep}/{kind}")
                else:
                    body = {"space": kind, "protocol": {"dataset": "digits"}}
                    answer = client.post("/v1/sweeps/preview", json=body)
                statuses[answer.status_code] += 1
            except httpx.TransportError:
                statuses[0] += 1
    return statuses


def listen(url: str, key: dict[str, str], sweep: int, stop: threading.Event) -> None:
    """Keeps an event stream open."""
    path = f"{url}/v1/sweeps/{sweep}/events"
    with httpx.Client(headers=key, timeout=60) as client:
        while not stop.wait(0.5):
            try:
                with client.stream("GET", path) as stream:
                    for _ in stream.iter_lines():
                        if stop.is_set():
                            return
            except httpx.TransportError:
                continue


def main() -> None:
    url, sweep = sys.argv[1], int(sys.argv[2])
    key = {"Authorization": f"Bearer {sys.stdin.readline().strip()}"}
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    totals: Counter[int] = Counter()
    lock = threading.Lock()

    def work() -> None:
        statuses = ask(url, key, sweep, stop)
        with lock:
            totals.update(statuses)

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    listeners = [
        threading.Thread(target=listen, args=(url, key, sweep, stop), daemon=True)
        for _ in range(STREAMS)
    ]
    for thread in [*threads, *listeners]:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({str(status): count for status, count in sorted(totals.items())}))


if __name__ == "__main__":
    main()
