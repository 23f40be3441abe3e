"""One network's page: layers, trials, answers by class, code that builds it, its neighbours."""

import re

import httpx
import torch
from playwright.sync_api import Page, expect

from tests.browser.conftest import Json


def open_best(page: Page, site: str, leaders: list[Json]) -> Json:
    job: Json = httpx.get(f"{site}/v1/jobs/{leaders[0]['id']}").json()
    page.goto(f"{site}/#/jobs/{job['id']}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Job {job['id']}")
    return job


def test_layers_add_up_and_trials_tell_where_they_were_measured(
    page: Page, site: str, leaders: list[Json]
) -> None:
    job = open_best(page, site, leaders)
    rows = page.locator("section[aria-label=Layers] tbody tr")
    expect(rows).to_have_count(len(job["layers"]))
    cells = [[cell.inner_text() for cell in row.locator("td").all()] for row in rows.all()]
    assert sum(int(row[7].replace(",", "")) for row in cells) == job["parameters"]
    assert sum(int(row[8].replace(",", "")) for row in cells) == job["flops"]
    trials = page.locator("section[aria-label=Trials]")
    expect(trials.locator("tbody tr")).to_have_count(job["trials_done"])
    expect(trials).to_contain_text(job["trials"][0]["environment"]["device"])
    expect(trials).to_contain_text(f"torch {job['trials'][0]['environment']['versions']['torch']}")
    for trial in job["trials"]:
        expect(trials).to_contain_text(str(trial["weights_seed"]))  # all of its digits


def test_the_code_builds_the_network(page: Page, site: str, leaders: list[Json]) -> None:
    job = open_best(page, site, leaders)
    names: dict[str, torch.nn.Module] = {}
    exec(page.locator("#snippet").inner_text(), names)
    network = names["network"]
    assert sum(weights.numel() for weights in network.parameters()) == job["parameters"]
    shape = job["protocol"]["input_shape"]
    features = network(torch.zeros(1, *shape)).shape[1]
    assert features == round(job["ratio"] * shape[0] * shape[1] * shape[2])
    expect(page.locator("section[aria-label='Build it again']")).to_contain_text(
        f"convsweep job {job['id']} --weights"
    )


def test_answers_by_class_and_image_are_those_of_the_stored_bits(
    page: Page, site: str, leaders: list[Json]
) -> None:
    job = open_best(page, site, leaders)
    answers = page.locator("section[aria-label=Answers]")
    bits = [format(int(t["correct_bits"], 16), f"0{4 * len(t['correct_bits'])}b")
            for t in job["trials"]]  # fmt: skip
    right = [sum(int(one[place]) for one in bits) for place in range(200)]
    always = [place for place, many in enumerate(right) if many == len(bits)]
    never = [place for place, many in enumerate(right) if many == 0]
    expect(answers).to_contain_text(f"Always right: {len(always)}")
    expect(answers).to_contain_text(f"Never right: {len(never)}")
    expect(answers.locator(".mosaic i")).to_have_count(200)
    indices = answers.locator(".indices").last.inner_text()
    assert [int(place) for place in re.findall(r"(\d+) \(", indices)] == never
    classes = answers.locator("tbody tr")
    expect(classes).to_have_count(10)
    shares = [row.locator("td").all_inner_texts() for row in classes.all()]
    mean = sum(int(row[1]) * float(row[2].removesuffix(" %")) for row in shares) / 200
    assert abs(mean - 100 * job["accuracy"]) < 0.1


def test_neighbours_differ_in_one_setting_and_lead_there(
    page: Page, site: str, leaders: list[Json]
) -> None:
    job = open_best(page, site, leaders)
    rows = page.locator("section[aria-label=Neighbours] tbody tr")
    expect(rows).to_have_count(7)  # every setting of the space has two choices
    link = rows.first.get_by_role("link")
    neighbour = httpx.get(f"{site}/v1/jobs/{link.inner_text()}").json()
    here, there = (
        [value for layer in one["layers"] for value in layer.values()] for one in (job, neighbour)
    )
    assert sum(a != b for a, b in zip(here, there, strict=True)) == 1
    link.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Job {neighbour['id']}")
    expect(page.locator("section[aria-label=Layers]")).to_be_visible()
