"""Every view on real results opens without console errors and is accessible."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Json, opened

VIEWS = {
    "sweeps": "#/sweeps",
    "new": "#/new?preset=quick",
    "sweep": "#/sweeps/1",
    "effects": "#/sweeps/1?tab=effects",
    "devices": "#/sweeps/1?tab=devices",
    "trainings": "#/sweeps/1?tab=trainings",
    "sweep-workers": "#/sweeps/1?tab=workers",
    "workers": "#/workers",
    "job": "#/jobs/{first}",
    "invalid-job": "#/jobs/{invalid}",
    "compare-jobs": "#/compare?jobs={first},{second}",
    "compare-sweeps": "#/compare?sweeps=1,2",
    "compare-nothing": "#/compare",
}
# what a view shows when it has loaded everything
READY = {
    "sweeps": "article .bar",
    "new": ".figures",
    "sweep": ".chart[data-points] canvas",
    "effects": ".parallel[data-lines]",
    "devices": "figure.curves svg",
    "trainings": ".curves polyline",
    "sweep-workers": "tbody tr",
    "workers": "tbody tr",
    "job": "section[aria-label=Neighbours] tbody tr >> nth=0",
    "invalid-job": "section[aria-label=Neighbours] tbody tr >> nth=0",
    "compare-jobs": "section[aria-label='Image by image'] tbody tr",
    "compare-sweeps": "section[aria-label=Agreement]",
    "compare-nothing": ".state",
}

# What injected text would try. Each attempt records the name of the error that stops it; an inline
# script raises none, but does not run.
ATTEMPTS = """
    const script = document.createElement("script")
    const inline = document.createElement("script")
    window.refused = [
        () => eval("1"), () => new Function("return 1")(), () => new Function("a", "return a"),
        () => { document.createElement("p").innerHTML = "<b>bold</b>" },
        () => { script.src = "/docs" }, () => { script.text = "1" },
        () => trustedTypes.createPolicy("default", { createHTML: text => text }),
        () => {
            inline.append("window.ran = true")
            document.head.append(inline)
            if (!window.ran) throw Object.assign(new Error(), { name: "refused" })
        },
    ].map(attempt => { try { attempt() } catch (error) { return error.name } })
"""


@pytest.fixture(scope="package")
def addresses(
    site: str, leaders: list[Json], invalid_job: int, trained: list[Json]
) -> dict[str, str]:
    """The address of every view."""
    ids = {"first": leaders[0]["id"], "second": leaders[1]["id"], "invalid": invalid_job}
    return {name: f"{site}/{place.format(**ids)}" for name, place in VIEWS.items()}


def visit(page: Page, addresses: dict[str, str], name: str) -> None:
    """Opens a view and waits for all of it."""
    page.goto("about:blank")
    page.goto(addresses[name])
    expect(page.locator(READY[name]).first).to_be_visible(timeout=30_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_opens_and_axe_finds_nothing_serious(
    browser: Browser,
    addresses: dict[str, str],
    accessible: Callable[[Page], None],
    scheme: str,
) -> None:
    with opened(browser, color_scheme=scheme) as page:
        for name in VIEWS:
            visit(page, addresses, name)
            expect(page.locator("html")).to_have_attribute("data-theme", scheme)
            accessible(page)


def test_no_view_is_wider_than_a_screen_of_380_pixels(
    browser: Browser, addresses: dict[str, str]
) -> None:
    with opened(browser, viewport={"width": 380, "height": 800}, has_touch=True) as page:
        for name in VIEWS:
            visit(page, addresses, name)
            assert page.evaluate("document.documentElement.scrollWidth") <= 380, name


def test_the_theme_is_switched_and_kept(page: Page, addresses: dict[str, str]) -> None:
    visit(page, addresses, "sweep")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_policy_allows_scripts_only_from_own_files(
    page: Page, addresses: dict[str, str], site: str
) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    response = page.goto(addresses["sweep"])
    assert response is not None
    directives = response.headers["content-security-policy"].split("; ")
    policy = dict(directive.split(" ", 1) for directive in directives)
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"
    assert not [name for name in policy if name.endswith(("-attr", "-elem"))]
    assert not re.search("unsafe-eval|unsafe-inline", response.headers["content-security-policy"])
    expect(page.locator(READY["sweep"])).to_be_visible()
    assert [url for url in requested if not url.startswith(f"{site}/")] == []


def test_text_becomes_neither_code_nor_markup_while_charts_are_drawn(
    browser: Browser, addresses: dict[str, str]
) -> None:
    with opened(browser, expected=("Content Security Policy", "Trusted")) as page:
        # a file of the page's own, because no policy applies to code from a debugger
        page.route(
            "**/dashboard/attempts.js",
            lambda route: route.fulfill(content_type="text/javascript", body=ATTEMPTS),
        )
        visit(page, addresses, "effects")
        refused = page.evaluate("import('/dashboard/attempts.js').then(() => window.refused)")
        assert page.evaluate("window.ran") is None
    assert refused == ["EvalError"] * 3 + ["TypeError"] * 4 + ["refused"]


def test_the_keyboard_is_enough_to_open_a_network(page: Page, addresses: dict[str, str]) -> None:
    visit(page, addresses, "sweep")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab = page.get_by_role("tab", name="Explore")
    tab.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="What matters")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowLeft")
    link = page.locator("tbody a").first
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Job")


def test_what_is_not_there_says_what_to_do(browser: Browser, site: str) -> None:
    with opened(browser, expected=("status of 404",)) as page:
        page.goto(f"{site}/#/sweeps/999")
        expect(page.get_by_role("alert")).to_contain_text("There is no sweep 999")
        page.get_by_role("link", name="All sweeps").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sweeps")
