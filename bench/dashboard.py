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
from bench.result_rows import add_published_sweep
from bench.servers import running_api, running_servers
from shared.db.session import make_engine
from shared.settings import Settings
from tests.browser.chromium import ARGUMENTS, find_chromium

GOALS = {"first_scatter_s": 2.0, "page_change_ms": 200.0, "tab_mb": 500.0, "effects_task_ms": 200.0}
_END = "UPDATE sweeps SET status = 'completed', completed_at = now() WHERE id = :sweep"


def add_finished_sweep(client: httpx.Client, settings: Settings) -> tuple[int, int]:
    """Creates a sweep of the published space with a result for each network; id and total."""
    engine = make_engine(settings, pool_size=1)
    sweep, total = add_published_sweep(client, engine)
    with engine.begin() as connection:
        connection.execute(text(_END), {"sweep": sweep})
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
