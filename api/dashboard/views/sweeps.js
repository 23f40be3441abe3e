// All sweeps, newest first, with where each stands.

import { ask } from "../lib/api.js"
import { count, emptyState, h, moment, percent, pill, significant, stateBar, timeLeft } from "../lib/dom.js"

const EVERY_MS = 3000

export async function show(view, { params, signal }) {
  const list = h("div", { class: "panel" })
  view.append(
    h(
      "div",
      { class: "row" },
      h("h1", { class: "grow" }, "Sweeps"),
      h("a", { class: "button primary", href: "#/new" }, "New sweep"),
    ),
    list,
  )
  const best = new Map()
  const token = params.get("page_token")
  const refresh = async () => {
    const page = await ask(`/v1/sweeps?page_size=20${token ? `&page_token=${encodeURIComponent(token)}` : ""}`, {
      signal,
    })
    page.sweeps = await Promise.all(page.sweeps.map((sweep) => withForecast(sweep, signal)))
    await Promise.all(page.sweeps.map((sweep) => noteBest(best, sweep, signal)))
    list.replaceChildren(...content(page, best))
    return page.sweeps.some((sweep) => sweep.status === "running")
  }
  const running = await refresh()
  if (running) poll(refresh, signal)
  return "Sweeps"
}

async function poll(refresh, signal) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
    try {
      if (signal.aborted || !(await refresh())) return
    } catch {
      /* the next turn asks again */
    }
  }
}

/** A list has no forecasts; only running sweeps have one. */
function withForecast(sweep, signal) {
  return sweep.status === "running" ? ask(`/v1/sweeps/${sweep.id}`, { signal }) : sweep
}

async function noteBest(best, sweep, signal) {
  const known = best.get(sweep.id)
  const counts = JSON.stringify(sweep.counts)
  if (known?.counts === counts) return
  const board = await ask(`/v1/sweeps/${sweep.id}/leaderboard?page_size=1`, { signal })
  best.set(sweep.id, { counts, accuracy: board.rows[0]?.accuracy })
}

function content(page, best) {
  if (!page.sweeps.length) {
    return [
      h(
        "div",
        { class: "card" },
        emptyState(
          "No sweep yet",
          "A sweep evaluates every architecture of a search space. The preset “quick” has 512 small networks and takes a minute on a laptop.",
          h("a", { class: "button primary", href: "#/new?preset=quick" }, "Start the quick sweep"),
          h("a", { class: "button", href: "#/new" }, "Describe your own"),
        ),
      ),
    ]
  }
  const more =
    page.next_page_token &&
    h("a", { class: "button", href: `#/sweeps?page_token=${encodeURIComponent(page.next_page_token)}` }, "Older sweeps")
  return [...page.sweeps.map((sweep) => card(sweep, best.get(sweep.id)?.accuracy)), more].filter(Boolean)
}

function card(sweep, best) {
  const running = sweep.status === "running"
  const facts = [
    ["best accuracy", percent(best)],
    ["finished", `${count(sweep.finished)}`, `of ${count(sweep.total)}`],
    running ? ["jobs a second", significant(sweep.jobs_per_s)] : ["dataset", sweep.protocol.dataset],
    running ? ["time left", timeLeft(sweep)] : ["started", moment(sweep.created_at)],
  ]
  return h(
    "article",
    { class: "card" },
    h(
      "div",
      { class: "row" },
      h("h2", { class: "grow" }, h("a", { href: `#/sweeps/${sweep.id}` }, sweep.name)),
      h("span", { class: "muted small" }, `#${sweep.id}`),
      pill(sweep.status, running),
    ),
    stateBar(sweep.counts),
    h(
      "dl",
      { class: "figures" },
      facts.map(([name, value, small]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, value, small && h("small", {}, ` ${small}`))),
      ),
    ),
  )
}
