"""``python -m bench.dashboard``: how soon the page shows a whole sweep, and what the tab takes.

Real embedded Postgres, a real uvicorn process, a real Chromium that draws by software. A sweep of
the published space whose 46,656 networks all have results, made inside Postgres. The first scatter
is there when all of its points are drawn, from opening the address in a browser with empty caches;
a page change, when the next rows are in the table; the tab's memory is that of its process which
no other shares (USS), after both. ``processor_s`` is what browser and API compute for a first
scatter, which distinguishes two ways even on a machine that is busy with other things.
"""

import json
import statistics
import sys
from contextlib import suppress
from typing import Annotated, Any

import httpx
import psutil
import typer
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import text

from bench.api import settle
from bench.queue import machine
from bench.servers import running_api, running_servers
from shared.db.session import make_engine
from shared.settings import Settings
from tests.browser.chromium import ARGUMENTS, find_chromium

GOALS = {"first_scatter_s": 2.0, "page_change_ms": 200.0, "tab_mb": 500.0, "effects_task_ms": 200.0}
_ENVIRONMENT = """
    INSERT INTO environments
        (code_version, device_class, device, dataset, dataset_hash, versions, fingerprint)
    VALUES ('bench', 'cuda', 'a device', 'stl10', 'x', '{}', 'bench') RETURNING id
"""
_FINISH = """
    UPDATE jobs SET status = 'completed', attempt = 1, trials_done = trials_target,
        accuracy = figures.accuracy, accuracy_sd = 0.01, accuracy_min = figures.accuracy - 0.02,
        accuracy_max = figures.accuracy + 0.02, train_accuracy = 0.9,
        throughput = figures.throughput, throughput_min = figures.throughput * 0.98,
        throughput_max = figures.throughput * 1.02, throughput_measured = true, fit_s = 0.01,
        ratio = coalesce(ratio, 0), environment_id = :environment, finished_at = clock_timestamp()
    FROM (
        SELECT id, round(CAST(least(0.6, greatest(0.1, random_normal(0.3, 0.03))) AS numeric), 4)
                    AS accuracy, exp(random_normal(7, 0.8)) AS throughput
        FROM jobs WHERE sweep_id = :sweep
    ) figures
    WHERE jobs.id = figures.id
"""
_ENVIRONMENT_COUNT = """
    INSERT INTO sweep_environments (sweep_id, environment_id, completed)
    SELECT sweep_id, environment_id, count(*) FROM jobs WHERE sweep_id = :sweep GROUP BY 1, 2
    ON CONFLICT (sweep_id, environment_id) DO UPDATE SET completed = excluded.completed
"""


def add_finished_sweep(client: httpx.Client, settings: Settings) -> tuple[int, int]:
    """Creates a sweep of the published space with a result for each network; id and total."""
    created = client.post("/v1/sweeps", json={"preset": "random-cnn-2025"})
    created.raise_for_status()
    sweep, total = int(created.json()["id"]), int(created.json()["total"])
    engine = make_engine(settings, pool_size=1)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT setseed(0.5)"))
        environment = connection.execute(text(_ENVIRONMENT)).scalar_one()
        connection.execute(text(_FINISH), {"sweep": sweep, "environment": environment})
        connection.execute(text(_ENVIRONMENT_COUNT), {"sweep": sweep})
        connection.execute(
            text("UPDATE sweeps SET status = 'completed', completed_at = now() WHERE id = :sweep"),
            {"sweep": sweep},
        )
    engine.dispose()
    settle(settings)
    return sweep, total


def first_scatter_s(page: Page, address: str, points: int) -> float:
    """Returns the seconds from asking for the page until every point is drawn."""
    page.goto("about:blank")
    page.goto(address, wait_until="commit")
    page.wait_for_selector(f'.chart[data-points="{points}"] canvas', state="attached")
    # since the navigation began; two frames later what was drawn can be seen
    return float(
        page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame("
            "() => done(performance.now() / 1000))))"
        )
    )


def page_change_ms(page: Page) -> float:
    """Returns the milliseconds from a click on Next until the next rows are there."""
    return float(
        page.evaluate("""() => new Promise(done => {
            const body = document.querySelector("section[aria-label=Leaderboard] [data-first]")
            const before = body.dataset.first, begun = performance.now()
            new MutationObserver((_, observer) => {
                if (body.dataset.first === before) return
                observer.disconnect()
                requestAnimationFrame(() => done(performance.now() - begun))
            }).observe(body, { attributes: true, childList: true })
            const buttons = [...document.querySelectorAll("section[aria-label=Leaderboard] button")]
            buttons.find(button => button.textContent === "Next").click()
        })""")
    )


def effects_figures(browser: Browser, address: str, lines: int) -> dict[str, float]:
    """Opens "What matters"; seconds until every line is drawn, and its longest main-thread task."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.add_init_script("""
        window.tasks = [0]  // the browser reports tasks over 50 ms
        new PerformanceObserver(list => {
            for (const task of list.getEntries()) window.tasks.push(task.duration)
        }).observe({ type: "longtask", buffered: true })
    """)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{address}?tab=effects", wait_until="commit")
    page.wait_for_selector(f'.parallel[data-lines="{lines}"]', state="attached")
    seconds, longest = page.evaluate("[performance.now() / 1000, Math.max(...window.tasks)]")
    context.close()
    return {"effects_s": round(seconds, 2), "effects_task_ms": round(longest, 1)}


def tab_mb() -> float:
    """Returns the memory of the largest renderer process of our Chromium."""
    renderers = [
        child.memory_full_info().uss
        for child in psutil.Process().children(recursive=True)
        if "--type=renderer" in " ".join(child.cmdline())
    ]
    return max(renderers) / 2**20


def processor_s() -> float:
    """Returns the seconds computed so far by our Chromium and the API."""
    used = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "chromium" in (command := " ".join(child.cmdline())) or "-m api" in command:
                used += sum(child.cpu_times()[:2])
    return used


def measure(browser: Browser, address: str, points: int, repeats: int) -> dict[str, Any]:
    """Returns medians over fresh browser contexts, and every figure."""
    scatters: list[float] = []
    changes: list[float] = []
    memory: list[float] = []
    processor: list[float] = []
    for _ in range(repeats):
        context = browser.new_context(viewport={"width": 1360, "height": 900})
        page = context.new_page()
        page.set_default_timeout(60_000)
        before = processor_s()
        scatters.append(first_scatter_s(page, address, points))
        processor.append(processor_s() - before)
        page.wait_for_selector("section[aria-label=Leaderboard] tbody tr")
        for _ in range(5):
            changes.append(page_change_ms(page))
        memory.append(tab_mb())
        context.close()
    return {
        "first_scatter_s": round(statistics.median(scatters), 2),
        "page_change_ms": round(statistics.median(changes), 1),
        "tab_mb": round(max(memory), 1),
        "processor_s": round(statistics.median(processor), 2),
        "first_scatters_s": [round(one, 2) for one in scatters],
        "page_changes_ms": [round(one, 1) for one in changes],
    }


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Fresh tabs.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Measures the dashboard on 46,656 results."""
    with running_servers() as settings, running_api(settings) as client:
        sweep, total = add_finished_sweep(client, settings)
        if not as_json:
            print(f"{total} rows are there", file=sys.stderr)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
            address = f"{client.base_url}/#/sweeps/{sweep}"
            figures = measure(browser, address.replace("//#", "/#"), total, repeats)
            figures |= effects_figures(browser, address.replace("//#", "/#"), total)
            figures |= {"rows": total, "goals": GOALS, "chromium": browser.version}
            browser.close()
    print(json.dumps({"machine": machine()} | figures, indent=None if as_json else 2))


if __name__ == "__main__":
    typer.run(main)
