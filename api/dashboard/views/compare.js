// Two or more architectures side by side, or two sweeps.

import { ask } from "../lib/api.js"
import {
  count,
  decimal,
  emptyState,
  figures,
  flop,
  h,
  network,
  percent,
  pill,
  short,
  significant,
  stateBar,
  stateKeys,
  table,
} from "../lib/dom.js"
import { link } from "../lib/route.js"

const MOST_JOBS = 8

export async function show(view, { params, signal }) {
  const jobs = numbers(params.get("jobs"))
  const sweeps = numbers(params.get("sweeps"))
  view.append(h("h1", {}, "Compare"), numbersForm(jobs, sweeps))
  const place = h("div", { class: "panel view" })
  view.append(place)
  if (sweeps.length >= 2) await compareSweeps(place, sweeps.slice(0, 2), signal)
  else if (jobs.length >= 2) await compareJobs(place, jobs.slice(0, MOST_JOBS), signal)
  else
    place.append(
      h(
        "div",
        { class: "card" },
        emptyState(
          "Nothing to compare yet",
          "Write at least two job numbers, or two sweep numbers. Ticking boxes in a leaderboard brings you here too.",
        ),
      ),
    )
  return "Compare"
}

const numbers = (text) => [
  ...new Set(
    (text ?? "")
      .split(/[\s,]+/)
      .filter((part) => /^\d{1,18}$/.test(part))
      .map(Number),
  ),
]

function numbersForm(jobs, sweeps) {
  const field = (name, title, values, example) =>
    h(
      "form",
      {
        class: "row",
        on: {
          submit: (event) => {
            event.preventDefault()
            location.hash = link(["compare"], {
              [name]: numbers(new FormData(event.target).get(name)).join(","),
            }).slice(1)
          },
        },
      },
      h(
        "label",
        {},
        title,
        h("input", { name, type: "text", value: values.join(", "), placeholder: example, inputmode: "numeric" }),
      ),
      h("button", { type: "submit" }, "Compare"),
    )
  return h(
    "div",
    { class: "row", style: { gap: "12px 32px" } },
    field("jobs", "Jobs", jobs, "4711, 4712"),
    field("sweeps", "Sweeps", sweeps, "1, 2"),
  )
}

async function compareJobs(place, ids, signal) {
  const jobs = await Promise.all(ids.map((id) => ask(`/v1/jobs/${id}`, { signal })))
  const pairs = await Promise.all(
    jobs.slice(1).map((other) =>
      ask(`/v1/jobs/${jobs[0].id}/comparison/${other.id}`, { signal }).catch((error) => {
        if (error.name === "AbortError") throw error
        return { other, problem: error.message }
      }),
    ),
  )
  const best = Math.max(...jobs.map((job) => job.accuracy ?? 0))
  /** @type {[string, (job: any) => any][]} */
  const rows = [
    ["Architecture", (job) => network(job.layers)],
    ["State", (job) => pill(job.status)],
    ["Accuracy", (job) => h("span", { class: job.accuracy === best ? "better" : "" }, percent(job.accuracy, 2))],
    ["SD over trials", (job) => percent(job.accuracy_sd, 2)],
    ["Training accuracy", (job) => percent(job.train_accuracy)],
    ...throughputRows(jobs),
    ["Output / input", (job) => decimal(job.ratio)],
    ["Parameters", (job) => short(job.parameters)],
    ["FLOPs per image", (job) => (job.flops == null ? "–" : flop(job.flops))],
    ["Trials", (job) => job.trials_done],
    ["Device", (job) => job.trials[0]?.environment.device ?? "–"],
    ["Sweep", (job) => h("a", { href: link(["sweeps", job.sweep_id]) }, `#${job.sweep_id}`)],
  ]
  place.append(
    h(
      "section",
      { class: "card flush", "aria-label": "Side by side" },
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Side by side, scrolls sideways" },
        h(
          "table",
          {},
          h("caption", { class: "unseen" }, "Architectures side by side"),
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, ""),
              jobs.map((job) => h("th", { scope: "col" }, h("a", { href: link(["jobs", job.id]) }, `Job ${job.id}`))),
            ),
          ),
          h(
            "tbody",
            {},
            rows.map(([title, cell]) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, title),
                jobs.map((job) => h("td", {}, cell(job))),
              ),
            ),
          ),
        ),
      ),
    ),
    h(
      "section",
      { class: "card flush", "aria-label": "Image by image" },
      h("div", { class: "row" }, h("h2", {}, `Image by image, against job ${jobs[0].id}`)),
      pairTable(pairs, jobs[0]),
    ),
  )
}

function pairTable(pairs, first) {
  const known = pairs.filter((pair) => !pair.problem)
  const problems = pairs
    .filter((pair) => pair.problem)
    .map((pair) => h("div", { class: "row" }, h("p", { class: "notice" }, `Job ${pair.other.id}: ${pair.problem}`)))
  if (!known.length) return h("div", {}, problems)
  return h(
    "div",
    {},
    table(
      `Against job ${first.id}`,
      [
        ["Other", false, (pair) => h("a", { href: link(["jobs", pair.second.id]) }, `Job ${pair.second.id}`)],
        ["Accuracy", true, (pair) => percent(pair.accuracies[1], 2)],
        [`Job ${first.id} less other`, true, (pair) => `${(100 * pair.difference.mean).toFixed(2)} points`],
        [
          "95 % interval",
          true,
          (pair) =>
            pair.difference.low == null
              ? "–"
              : `${(100 * pair.difference.low).toFixed(2)} to ${(100 * pair.difference.high).toFixed(2)}`,
        ],
        ["McNemar p", true, (pair) => (pair.mcnemar.p_value < 0.001 ? "< 0.001" : pair.mcnemar.p_value.toFixed(3))],
        ["Both right", true, (pair) => count(pair.answers.both)],
        ["Only first", true, (pair) => count(pair.answers.only_first)],
        ["Only other", true, (pair) => count(pair.answers.only_second)],
        ["Neither", true, (pair) => count(pair.answers.neither)],
      ],
      known,
    ),
    problems,
  )
}

async function compareSweeps(place, ids, signal) {
  const sweeps = await Promise.all(ids.map((id) => ask(`/v1/sweeps/${id}`, { signal })))
  place.append(
    h(
      "div",
      { class: "columns" },
      sweeps.map((sweep) =>
        h(
          "section",
          { class: "card", "aria-label": `Sweep ${sweep.id}` },
          h(
            "div",
            { class: "row" },
            h("h2", { class: "grow" }, h("a", { href: link(["sweeps", sweep.id]) }, sweep.name)),
            pill(sweep.status),
          ),
          stateBar(sweep.counts),
          stateKeys(sweep.counts),
          h("p", { class: "muted small" }, protocolWords(sweep.protocol)),
        ),
      ),
    ),
  )
  try {
    const found = await ask(`/v1/sweeps/${ids[0]}/analysis/comparison/${ids[1]}`, { signal })
    const points = (value) => `${(100 * value).toFixed(2)}`
    place.append(
      h(
        "section",
        { class: "card", "aria-label": "Agreement" },
        h("h2", {}, "How they agree"),
        figures([
          ["architectures in both", count(found.shared)],
          [`only in #${ids[0]}`, count(found.only_first)],
          [`only in #${ids[1]}`, count(found.only_second)],
          ["Spearman", decimal(found.spearman)],
          ["Kendall", decimal(found.kendall)],
          [
            `accuracy of #${ids[0]} less #${ids[1]}`,
            found.difference ? `${points(found.difference.mean)} points` : "–",
            found.difference?.low != null ? `${points(found.difference.low)} to ${points(found.difference.high)}` : "",
          ],
        ]),
      ),
    )
  } catch (error) {
    if (error.name === "AbortError") throw error
    place.append(h("div", { class: "card" }, emptyState("No figures yet", error.message)))
  }
}

function protocolWords({ dataset, train_images, validation_images, trials, weights, seed }) {
  const images = `${train_images} + ${validation_images} images`
  return `${dataset}, ${images}, ${trials} trials, weights shared by ${weights.scope}, seed ${seed}`
}

/**
 * A row for each device model that has timed any of the networks.
 * @returns {[string, (job: any) => any][]}
 */
function throughputRows(jobs) {
  const devices = new Set(jobs.flatMap((job) => job.throughputs.map((one) => one.throughput_device)))
  const on = (job, device) => job.throughputs.find((one) => one.throughput_device === device)?.throughput
  return [...devices].map((device) => [`Images a second on ${device}`, (job) => significant(on(job, device))])
}
