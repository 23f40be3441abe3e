// One sweep: where it stands, live; its results as a picture and a table; what explains them.

import { ask, watchSweep } from "../lib/api.js"
import { askExtension, confirmed } from "../lib/dialog.js"
import {
  announce,
  count,
  duration,
  figures,
  h,
  moment,
  percent,
  pill,
  significant,
  stateBar,
  stateKeys,
  timeLeft,
} from "../lib/dom.js"
import { Filters } from "../lib/filters.js"
import { setParams } from "../lib/route.js"
import { Space } from "../lib/space.js"
import { Leaderboard } from "./leaderboard.js"
import { Scatter } from "./scatter.js"

const REFRESH_MS = 4000
const TABS = [
  ["explore", "Explore"],
  ["effects", "What matters"],
  ["devices", "Devices"],
  ["trainings", "Trainings"],
  ["workers", "Workers"],
]

export async function show(view, { path, params, signal }) {
  const sweep = await ask(`/v1/sweeps/${encodeURIComponent(path[1])}`, { signal })
  const context = { sweep, space: new Space(sweep.space), filters: new Filters(params), signal }
  const header = new Header(context)
  const panel = h("div", { class: "panel", role: "tabpanel", id: "panel", tabindex: "-1" })
  const tabs = tabBar(params.get("tab") ?? "explore", (tab) => open(tab, panel, context))
  view.append(header.element, context.filters.element, tabs, panel)
  await open(params.get("tab") ?? "explore", panel, context)
  header.askBest()
  if (sweep.status === "running" || sweep.status === "paused") follow(context, header)
  return sweep.name
}

function tabBar(current, choose) {
  const buttons = TABS.map(([id, title], place) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        id: `tab-${id}`,
        "aria-controls": "panel",
        "aria-selected": id === current,
        tabindex: id === current ? 0 : -1,
        on: {
          click: () => pick(place),
          keydown: (event) => {
            const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
            if (step) pick((place + step + TABS.length) % TABS.length)
          },
        },
      },
      title,
    ),
  )
  function pick(place) {
    buttons.forEach((button, other) => {
      button.setAttribute("aria-selected", String(other === place))
      button.tabIndex = other === place ? 0 : -1
    })
    buttons[place].focus()
    setParams({ tab: TABS[place][0] === "explore" ? null : TABS[place][0] })
    choose(TABS[place][0])
  }
  return h("div", { class: "tabs", role: "tablist", "aria-label": "Parts of this sweep" }, buttons)
}

let closing = null

async function open(tab, panel, context) {
  closing?.abort()
  closing = new AbortController()
  const own = { ...context, signal: AbortSignal.any([closing.signal, context.signal]) }
  context.filters.element.hidden = ["devices", "trainings", "workers"].includes(tab)
  panel.setAttribute("aria-labelledby", `tab-${tab}`)
  panel.replaceChildren()
  context.refresh = null
  if (tab === "effects") return void (await import("./effects.js")).showEffects(panel, own)
  if (tab === "devices") return void (await import("./devices.js")).showDevices(panel, own)
  if (tab === "trainings") return void (await import("./trainings.js")).showTrainings(panel, own)
  if (tab === "workers") return void (await import("./workers.js")).showWorkers(panel, own)
  explore(panel, own, context)
}

function explore(panel, own, context) {
  const board = new Leaderboard(own)
  const scatter = new Scatter(own, (ids) => board.select(ids))
  board.columnOf = (field) => scatter.column(field)
  panel.append(scatter.element, board.element)
  const load = () => Promise.all([scatter.load(), scatter.selection ? null : board.load()])
  context.filters.onChange = () => {
    board.restart()
    return load()
  }
  context.refresh = load
  load()
}

/** Follows the stream of events, and looks at the results again while new ones arrive. */
async function follow(context, header) {
  let drawn = context.sweep.finished
  let at = performance.now()
  for await (const { event, data } of watchSweep(context.sweep.id, context.signal)) {
    if (event === "worker") header.noteWorker(data)
    if (event === "leader" && data.rank === 1) header.showBest(data.accuracy)
    if (event !== "progress" && event !== "end") continue
    header.update(event === "end" ? await ended(context, data) : data)
    const due = event === "end" || (data.finished !== drawn && performance.now() - at > REFRESH_MS)
    if (!due) continue
    drawn = data.finished
    at = performance.now()
    header.askBest()
    context.refresh?.()
  }
}

/** The sweep as it ended: events do not say when that was. */
function ended({ sweep, signal }, data) {
  return ask(`/v1/sweeps/${sweep.id}`, { signal }).catch(() => data)
}

/** Name, state, actions and progress of a sweep. */
class Header {
  constructor(context) {
    this.context = context
    this.best = null
    this.status = h("span")
    this.actions = h("div", { class: "row" })
    this.problem = h("div", { role: "alert" })
    this.banner = h("div", { role: "status" })
    this.hindrances = new Map((context.sweep.problems ?? []).map((row) => [row.worker_id, row]))
    this.progress = h("section", { class: "card", "aria-label": "Progress" })
    const { sweep } = context
    this.element = h(
      "div",
      { class: "panel" },
      h(
        "div",
        { class: "row" },
        h(
          "div",
          { class: "title grow" },
          h(
            "p",
            { class: "crumbs" },
            h("a", { href: "#/sweeps" }, "Sweeps"),
            ` / #${sweep.id} · ${sweep.protocol.dataset} · ${sweep.protocol.trials} trials · started ${moment(sweep.created_at)}`,
          ),
          h("div", { class: "row" }, h("h1", {}, sweep.name), this.status),
        ),
        this.actions,
      ),
      this.problem,
      this.banner,
      this.progress,
    )
    this.update(sweep)
    this.#showHindrances()
  }

  /** Keeps what keeps each living worker from this sweep. */
  noteWorker({ id, hostname, change, problem }) {
    if (problem && change !== "gone") this.hindrances.set(id, { hostname, problem })
    else this.hindrances.delete(id)
    this.#showHindrances()
  }

  #showHindrances() {
    const lines = new Set([...this.hindrances.values()].map((row) => `${row.hostname}: ${row.problem}`))
    this.banner.replaceChildren(
      ...(lines.size
        ? [
            h(
              "div",
              { class: "notice" },
              h(
                "strong",
                {},
                lines.size === 1 ? "A worker cannot work on this sweep" : "Workers cannot work on this sweep",
              ),
              [...lines].map((line) => h("p", {}, line)),
            ),
          ]
        : []),
    )
  }

  update(state) {
    Object.assign(this.context.sweep, state)
    const { sweep } = this.context
    const running = sweep.status === "running"
    this.status.replaceChildren(pill(sweep.status, running))
    this.actions.replaceChildren(...this.#actions())
    this.progress.replaceChildren(
      figures([
        ["best accuracy", percent(this.best)],
        ["finished", count(sweep.finished), `of ${count(sweep.total)}`],
        ["jobs a second", running ? significant(sweep.jobs_per_s) : "–"],
        [
          running ? "time left" : "took",
          running
            ? timeLeft(sweep)
            : duration(sweep.completed_at && (Date.parse(sweep.completed_at) - Date.parse(sweep.created_at)) / 1000),
        ],
      ]),
      running && sweep.waiting_for ? h("p", { class: "muted" }, `Waiting for ${sweep.waiting_for}.`) : "",
      stateBar(sweep.counts),
      stateKeys(sweep.counts),
    )
  }

  /** Asks for the best accuracy, which a filtered table or another tab does not show; more trials may lower it. */
  async askBest() {
    const { sweep, signal } = this.context
    const board = await ask(`/v1/sweeps/${sweep.id}/leaderboard?page_size=1`, { signal }).catch(() => null) // the table says what is wrong
    if (board) this.showBest(board.rows[0]?.accuracy ?? null)
  }

  showBest(accuracy) {
    if (accuracy === this.best) return
    this.best = accuracy
    this.update({})
  }

  #actions() {
    const { status, counts, protocol, id, name } = this.context.sweep
    const button = (title, does, kind = "") => h("button", { type: "button", class: kind, on: { click: does } }, title)
    const found = []
    if (status === "running")
      found.push(
        button(
          "Pause",
          async () =>
            (await confirmed(
              `Pause “${name}”?`,
              "Groups that run now finish; nothing new is handed out until you resume.",
              "Pause",
            )) && this.#do("pause"),
        ),
      )
    if (status === "paused") found.push(button("Resume", () => this.#do("resume"), "primary"))
    if (counts.failed && status !== "cancelled")
      found.push(
        button(
          `Retry ${count(counts.failed)} failed`,
          async () =>
            (await confirmed(
              "Hand failed jobs out again?",
              `${count(counts.failed)} jobs failed. Their attempts are counted anew.`,
              "Retry",
            )) && this.#do("retry"),
        ),
      )
    found.push(
      button("Extend …", async () => {
        const more = await askExtension(protocol.trials)
        if (more) this.#do("extend", more)
      }),
    )
    if (status === "running" || status === "paused")
      found.push(
        button(
          "Cancel …",
          async () =>
            (await confirmed(
              `Cancel “${name}” for good?`,
              `${count(counts.pending + counts.running)} unfinished jobs end. Those with results keep them; the others are given up.`,
              "Cancel this sweep",
              true,
            )) && this.#do("cancel"),
          "danger",
        ),
      )
    for (const button of found) button.dataset.sweep = id
    return found
  }

  async #do(action, body) {
    this.problem.replaceChildren()
    const was = this.context.sweep.status
    try {
      const sweep = await ask(`/v1/sweeps/${this.context.sweep.id}/${action}`, { method: "POST", body })
      this.update(sweep)
      announce(`The sweep is ${sweep.status}`)
      if ((was === "completed" || was === "cancelled") && sweep.status === "running") follow(this.context, this)
    } catch (error) {
      this.problem.replaceChildren(h("p", { class: "notice" }, error.message))
    }
  }
}
