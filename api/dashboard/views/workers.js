// Who works: device, current group, rate, last sign of life, and what keeps one from working.

import { ask } from "../lib/api.js"
import { ago, emptyState, h, pill, significant, table } from "../lib/dom.js"

const EVERY_MS = 3000

export async function show(view, { signal }) {
  const place = h("div", { class: "card flush" })
  view.append(h("h1", {}, "Workers"), place)
  await keep(place, null, signal)
  return "Workers"
}

export async function showWorkers(panel, { sweep, signal }) {
  const place = h("section", { class: "card flush", "aria-label": "Workers" })
  panel.append(place)
  await keep(place, sweep.id, signal)
}

async function keep(place, sweepId, signal) {
  const refresh = async () => place.replaceChildren(content(await ask("/v1/workers", { signal }), sweepId))
  await refresh()
  poll(refresh, signal)
}

async function poll(refresh, signal) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
    try {
      if (!signal.aborted) await refresh()
    } catch {
      /* the next turn asks again */
    }
  }
}

function content(workers, sweepId) {
  if (!workers.length)
    return emptyState(
      "No worker runs",
      "Sweeps wait until one does. On a machine with a GPU, or any other: convsweep worker",
    )
  return table(
    "Workers",
    [
      ["Worker", false, (worker) => h("span", {}, worker.hostname, h("span", { class: "muted" }, ` · ${worker.pid}`))],
      ["Device", false, (worker) => worker.device],
      [
        "Works on",
        false,
        (worker) =>
          worker.sweep_id == null
            ? h("span", { class: "muted" }, "idle")
            : h(
                "span",
                {},
                worker.sweep_id === sweepId
                  ? "this sweep"
                  : h("a", { href: `#/sweeps/${worker.sweep_id}` }, `sweep ${worker.sweep_id}`),
                h(
                  "span",
                  { class: "muted" },
                  worker.group_index == null ? " · a training" : ` · group ${worker.group_index}, ${worker.jobs} jobs`,
                ),
              ),
      ],
      ["Jobs a second", true, (worker) => significant(worker.jobs_per_s)],
      ["Last heartbeat", true, (worker) => ago(worker.last_seen_at)],
      [
        "State",
        false,
        (worker) =>
          h(
            "span",
            {},
            pill(worker.problem ? "blocked" : worker.sweep_id == null ? "waiting" : "running"),
            worker.problem && ` ${worker.problem}`,
            hindrances(worker, sweepId),
          ),
      ],
    ],
    workers,
  )
}

/** Sweeps that a worker cannot work on, and why; on the page of a sweep only that one. */
function hindrances(worker, sweepId) {
  return worker.problems
    .filter((row) => sweepId == null || row.sweep_id === sweepId)
    .map((row) =>
      h("p", {}, h("span", { class: "pill is-hindered" }, `cannot work on sweep ${row.sweep_id}`), ` ${row.problem}`),
    )
}
