// The ranked table: sorting, pages, error bars, downloads, and a link to exactly this view.

import { ask, download } from "../lib/api.js"
import { copyButton, count, decimal, emptyState, h, network, percent, short, significant } from "../lib/dom.js"
import { here, link, setParams } from "../lib/route.js"

const PAGE_ROWS = 25
const COLUMNS = [
  ["accuracy", "Accuracy"],
  ["throughput", "Images/s"],
  ["ratio", "Ratio"],
  ["parameters", "Parameters"],
  ["flops", "FLOPs"],
  ["trials_done", "Trials"],
  ["fit_seconds", "Fit, s"],
  ["fitness", "Fitness"],
]

export class Leaderboard {
  constructor(context) {
    this.context = context
    const { params } = here()
    this.sort = params.get("sort") ?? "-accuracy"
    this.token = params.get("page_token")
    this.before = [] // tokens of the pages that lie before this one
    this.selected = null
    this.place = 0
    this.compared = new Set()
    /** @type {((field: string) => Promise<Map<number, number>>) | null} values of a field for every network */
    this.columnOf = null
    this.body = h("div", { "aria-busy": "true" })
    this.note = h("span", { class: "muted small grow" })
    this.devices = h("span")
    this.compare = h("a", { class: "button", hidden: true })
    this.pager = h("div", { class: "row pager" })
    this.element = h(
      "section",
      { class: "card flush", "aria-label": "Leaderboard" },
      this.#tools(),
      this.body,
      this.pager,
    )
  }

  /** Goes back to the first page, for other filters. */
  restart() {
    this.token = null
    this.before = []
    this.selected = null
    this.place = 0
  }

  /** Shows only these jobs, or all again for null. */
  async select(ids) {
    if (ids === null && this.selected === null) return
    this.restart()
    this.selected = ids
    await this.load()
  }

  async load() {
    const turn = Symbol()
    this.turn = turn
    this.body.setAttribute("aria-busy", "true")
    try {
      const page = this.selected ? await this.#selectedPage() : await this.#page()
      if (turn !== this.turn) return
      this.#show(page)
    } catch (error) {
      if (error.name === "AbortError" || turn !== this.turn) return
      if (error.code === "invalid_page_token") {
        this.restart()
        setParams({ page_token: null })
        return void this.load()
      }
      this.body.replaceChildren(
        h(
          "div",
          { role: "alert" },
          emptyState(
            "The table did not come",
            error.message,
            h("button", { type: "button", on: { click: () => this.load() } }, "Try again"),
          ),
        ),
      )
    } finally {
      this.body.setAttribute("aria-busy", "false")
    }
  }

  #path(what, more) {
    return `/v1/sweeps/${this.context.sweep.id}/${what}?${this.context.filters.query(more)}`
  }

  #page() {
    return ask(this.#path("leaderboard", { sort: this.sort, page_size: PAGE_ROWS, page_token: this.token }), {
      signal: this.context.signal,
    })
  }

  /** Asks for one page of the selected jobs; which come first is decided here, since we have them all. */
  async #selectedPage() {
    const first = this.sort.split(",")[0]
    const down = first.startsWith("-")
    const values = await this.columnOf(first.replace("-", ""))
    const known = (id) => values.get(id) ?? (down ? -Infinity : Infinity)
    const order = [...this.selected].sort((a, b) => (down ? known(b) - known(a) : known(a) - known(b)) || a - b)
    const ids = order.slice(this.place, this.place + PAGE_ROWS)
    if (!ids.length) return { rows: [], timed: {}, measured: {}, throughput_device: null }
    const page = await ask(this.#path("leaderboard", { id: ids.join("|"), sort: this.sort, page_size: PAGE_ROWS }), {
      signal: this.context.signal,
    })
    for (const row of page.rows) row.rank += this.place
    return page
  }

  #tools() {
    const file = (form) =>
      h(
        "button",
        { type: "button", on: { click: (event) => this.#export(form, event.target) } },
        form === "jsonl" ? "JSON Lines" : form === "csv" ? "CSV" : "Parquet",
      )
    return h(
      "div",
      { class: "row" },
      h("h2", {}, "Leaderboard"),
      this.note,
      this.devices,
      this.compare,
      copyButton("Copy link", () => location.href),
      h(
        "span",
        {
          class: "segments",
          role: "group",
          "aria-label": "Download everything that passes the filters",
          title: "Everything that passes the filters",
        },
        ["csv", "jsonl", "parquet"].map(file),
      ),
    )
  }

  async #export(form, button) {
    button.disabled = true
    try {
      await download(
        this.#path(`export.${form}`, ranked(this.context.filters.texts)),
        `sweep-${this.context.sweep.id}.${form}`,
      )
    } catch (error) {
      this.context.filters.complain(error.message)
    } finally {
      button.disabled = false
    }
  }

  #show(page) {
    this.#showDevices(page)
    this.note.textContent = this.selected ? `${count(this.selected.length)} selected` : deviceNote(page)
    this.body.replaceChildren(
      page.rows.length
        ? this.#table(page.rows)
        : emptyState(
            "No network to rank",
            this.selected
              ? "Nothing lies within the selection."
              : "Networks appear here when they have results and pass the filters above.",
          ),
    )
    this.body.dataset.first = page.rows[0]?.id ?? ""
    this.#showPager(page)
  }

  #showDevices(page) {
    const names = Object.keys(page.timed)
    if (names.length < 2) return this.devices.replaceChildren()
    const current = this.context.filters.device
    const option = (value, title) => h("option", { value, selected: value === current }, title)
    return this.devices.replaceChildren(
      h(
        "select",
        {
          "aria-label": "Device model of throughput and fitness",
          on: {
            change: (event) => {
              this.context.filters.device = event.target.value
            },
          },
        },
        option("", `${names[0]} (most timings)`),
        names.slice(1).map((name) => option(name, name)),
      ),
    )
  }

  #table(rows) {
    const means = rows.map((row) => row.accuracy).filter((value) => value != null)
    const room = 0.4 * (Math.max(...means) - Math.min(...means)) || 0.01
    const scale = [Math.min(...means) - room, Math.max(...means) + room] // wide intervals are cut off
    return h(
      "div",
      { class: "scroll", role: "region", tabindex: "0", "aria-label": "Leaderboard, scrolls sideways" },
      h(
        "table",
        {},
        h("caption", { class: "unseen" }, "Networks in order"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, h("span", { class: "unseen" }, "Compare")),
            h("th", { scope: "col", class: "number" }, "#"),
            h("th", { scope: "col" }, "Architecture"),
            COLUMNS.map(([field, title]) => this.#heading(field, title)),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((row) => this.#row(row, scale)),
        ),
      ),
    )
  }

  #heading(field, title) {
    const [first] = this.sort.split(",")
    const mine = first.replace("-", "") === field
    const down = first.startsWith("-")
    return h(
      "th",
      { scope: "col", class: "number", "aria-sort": mine ? (down ? "descending" : "ascending") : null },
      h(
        "button",
        { type: "button", on: { click: () => this.#sortBy(mine && down ? field : `-${field}`) } },
        title,
        h("span", { "aria-hidden": "true" }, mine ? (down ? "↓" : "↑") : ""),
      ),
    )
  }

  #sortBy(sort) {
    const { selected } = this
    this.restart()
    this.selected = selected
    this.sort = sort
    setParams({ sort: sort === "-accuracy" ? null : sort, page_token: null })
    return this.load()
  }

  #row(row, scale) {
    const box = h("input", {
      type: "checkbox",
      "aria-label": `Compare job ${row.id}`,
      checked: this.compared.has(row.id),
      on: { change: (event) => this.#compareWith(row.id, event.target.checked) },
    })
    return h(
      "tr",
      {},
      h("td", {}, box),
      h("td", { class: "number muted" }, row.rank),
      h("td", {}, h("a", { href: link(["jobs", row.id]), "aria-label": `Job ${row.id}` }, network(row.layers))),
      h("td", { class: "number" }, percent(row.accuracy, 2), whisker(row, scale)),
      h("td", { class: "number" }, speed(row)),
      h("td", { class: "number" }, decimal(row.ratio)),
      h("td", { class: "number" }, short(row.parameters)),
      h("td", { class: "number" }, short(row.flops)),
      h("td", { class: "number" }, row.trials_done),
      h("td", { class: "number" }, significant(row.fit_seconds)),
      h("td", { class: "number" }, decimal(row.fitness)),
    )
  }

  #compareWith(id, wanted) {
    if (wanted) this.compared.add(id)
    else this.compared.delete(id)
    this.compare.hidden = this.compared.size < 2
    this.compare.textContent = `Compare ${this.compared.size}`
    this.compare.href = link(["compare"], { jobs: [...this.compared].join(",") })
  }

  #showPager(page) {
    const button = (title, does, enabled) =>
      h("button", { type: "button", disabled: !enabled, on: { click: does } }, title)
    const rows = page.rows.length ? `${count(page.rows[0].rank)} to ${count(page.rows.at(-1).rank)}` : ""
    const selected = this.selected !== null
    const first = selected ? this.place === 0 : !this.token
    const more = selected ? this.place + PAGE_ROWS < this.selected.length : page.next_page_token
    this.pager.replaceChildren(
      h("span", { class: "muted small grow" }, rows),
      button("First", () => this.#go(null, []), !first),
      button(
        "Previous",
        () =>
          selected
            ? this.#goTo(this.place - PAGE_ROWS)
            : this.#go(this.before.at(-1) ?? null, this.before.slice(0, -1)),
        !first,
      ),
      button(
        "Next",
        () =>
          selected ? this.#goTo(this.place + PAGE_ROWS) : this.#go(page.next_page_token, [...this.before, this.token]),
        more,
      ),
    )
  }

  #go(token, before) {
    this.token = token
    this.before = before
    this.place = 0
    setParams({ page_token: token })
    return this.load()
  }

  #goTo(place) {
    this.place = Math.max(0, place)
    return this.load()
  }
}

/** A mean with its 95 % interval on the page's common scale. */
function whisker(row, [least, most]) {
  if (row.accuracy == null) return null
  const at = (value) => `${most > least ? (100 * (value - least)) / (most - least) : 50}%`
  const low = row.accuracy_low ?? row.accuracy
  const high = row.accuracy_high ?? row.accuracy
  const words =
    row.accuracy_low == null ? "one trial, no interval" : `95 % interval ${percent(low, 2)} to ${percent(high, 2)}`
  return h(
    "span",
    { class: "whisker", title: words, role: "img", "aria-label": words },
    h("i", { style: { left: at(low), width: `calc(${at(high)} - ${at(low)})` } }),
    h("b", { style: { left: at(row.accuracy) } }),
  )
}

/** A throughput; a predicted one with its 90 % interval. */
function speed(row) {
  if (row.throughput_kind !== "predicted") return significant(row.throughput)
  const [low, high] = [significant(row.throughput_min), significant(row.throughput_max)]
  const words = `predicted from another device model; 90 % interval ${low} to ${high}`
  return h(
    "span",
    { title: words },
    `≈ ${significant(row.throughput)}`,
    h("small", { class: "muted" }, ` ${low}–${high}`),
  )
}

/** Filters that select what the table shows: networks with a trial that no gate rejected. */
function ranked(texts) {
  const named = (field) => texts.some((text) => text.startsWith(`${field}=`))
  if (named("status")) return {}
  const status = "completed|pending|running|failed|cancelled"
  return named("trials_done") ? { status } : { status, trials_done: "1.." }
}

/** Says which device model's throughputs are shown, and how many networks it has timed. */
function deviceNote({ timed, measured, throughput_device: device, min_throughput: least }) {
  if (!device) return ""
  const all = Object.values(measured).reduce((sum, networks) => sum + networks, 0)
  const part = timed[device] < all ? ` (${count(timed[device])} of ${count(all)} networks)` : ""
  const hidden = least ? `; below ${count(least)} images/s left out` : ""
  return `throughput on ${device}${part}${hidden}`
}
