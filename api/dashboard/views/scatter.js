// Every network of a sweep as a point; any numeric field on either axis and as colour.

import { Chart } from "../charts/chart.js"
import { askColumns } from "../lib/api.js"
import { announce, count, decimal, emptyState, fieldName, h, network, percent, short, significant } from "../lib/dom.js"
import { here, link, setParams } from "../lib/route.js"

export const POINT_FIELDS = [
  "accuracy",
  "accuracy_sd",
  "train_accuracy",
  "throughput",
  "ratio",
  "parameters",
  "flops",
  "fit_seconds",
  "trials_done",
  "fitness",
]
// which way is better, for the front that no other network beats
const BETTER = {
  accuracy: 1,
  train_accuracy: 1,
  throughput: 1,
  fitness: 1,
  parameters: -1,
  flops: -1,
  fit_seconds: -1,
  ratio: -1,
}
// comparable only on one device model: the API sends those of one, and null for networks without
const PER_DEVICE = ["throughput", "fitness"]
const FRACTIONS = new Set(["accuracy", "accuracy_sd", "train_accuracy"])
const AXES = ["x", "y", "color"]

export class Scatter {
  /** @param {(ids: number[] | null) => void} onSelect called when a selection begins, changes or ends */
  constructor(context, onSelect) {
    this.context = context
    this.onSelect = onSelect
    const { params } = here()
    this.fields = [...POINT_FIELDS, ...context.space.varied_numbers()]
    const start = { x: context.sweep.protocol.timing ? "throughput" : "flops", y: "accuracy", color: "ratio" }
    this.axes = Object.fromEntries(
      AXES.map((axis) => [axis, this.fields.includes(params.get(axis)) ? params.get(axis) : start[axis]]),
    )
    this.start = start
    this.front = params.get("front") !== "off"
    this.selection = parseSelection(params.get("select"))
    this.mode = matchMedia("(max-width: 640px)").matches ? "off" : "select"
    this.columns = new Map()
    this.chart = new Chart(
      {
        onHover: (place, event) => this.#hover(place, event),
        onOpen: (place) => {
          location.hash = link(["jobs", this.points.id[place]]).slice(1)
        },
        onSelect: (selection) => this.#select(selection && inWords(selection)),
      },
      context.signal,
    )
    this.chart.element.setAttribute("aria-describedby", "scatter-words")
    this.chart.setMode(this.mode)
    this.empty = h("div", { hidden: true })
    this.words = h("p", { class: "muted small", id: "scatter-words", "aria-live": "polite" })
    this.card = h("div", { class: "hovercard", hidden: true })
    document.body.append(this.card)
    context.signal.addEventListener("abort", () => this.card.remove(), { once: true })
    this.element = h(
      "section",
      { class: "card", "aria-label": "Scatter plot" },
      this.#controls(),
      this.chart.element,
      this.empty,
      this.words,
    )
  }

  /** Fetches what the axes need and draws it. */
  async load() {
    const turn = Symbol()
    this.turn = turn
    this.columns.clear()
    const wanted = [...new Set(Object.values(this.axes))].filter((field) => POINT_FIELDS.includes(field))
    try {
      const coming = this.#fetch(wanted)
      this.works = this.chart.start() // while the points are on their way
      const points = await coming
      if (turn !== this.turn || this.context.signal.aborted) return
      this.points = points
      this.context.filters.complain(null)
      await this.#draw()
    } catch (error) {
      if (error.name === "AbortError" || this.context.signal.aborted) return
      this.context.filters.complain(error.message)
    }
  }

  /** The values of any numeric field, by job id. */
  async column(field) {
    if (!this.points) await this.load()
    const values = await this.#values(field)
    return new Map(this.points.id.map((id, place) => [id, values[place]]))
  }

  #fetch(fields) {
    const query = this.context.filters.query({ fields: fields.join(",") || "accuracy" })
    return askColumns(`/v1/sweeps/${this.context.sweep.id}/points?${query}`, { signal: this.context.signal })
  }

  async #values(field) {
    if (this.points.columns[field]) return this.points.columns[field]
    if (this.columns.has(field)) return this.columns.get(field)
    let values
    if (POINT_FIELDS.includes(field)) {
      const more = await this.#fetch([field])
      const byId = new Map(more.id.map((id, place) => [id, more.columns[field][place]]))
      values = this.points.id.map((id) => byId.get(id) ?? null)
    } else values = this.context.space.column(field, this.points.space_index)
    this.columns.set(field, values)
    return values
  }

  #controls() {
    const choose = (axis, title) =>
      h(
        "label",
        {},
        title,
        h(
          "select",
          { name: axis, on: { change: (event) => this.#axis(axis, event.target.value) } },
          this.fields.map((field) =>
            h("option", { value: field, selected: field === this.axes[axis] }, fieldName(field)),
          ),
        ),
      )
    const modes = [
      ["select", "Box"],
      ["lasso", "Lasso"],
      ["zoom", "Zoom"],
    ]
    const buttons = modes.map(([mode, title]) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": mode === this.mode,
          title: {
            select: "Drag a box to filter the table",
            lasso: "Draw around networks to filter the table",
            zoom: "Drag to zoom; double click to see all",
          }[mode],
          on: { click: () => this.#mode(mode, buttons, modes) },
        },
        title,
      ),
    )
    this.clear = h(
      "button",
      { type: "button", hidden: true, on: { click: () => this.#select(null) } },
      "Clear selection",
    )
    return h(
      "div",
      { class: "row" },
      h("h2", { class: "grow unseen" }, "All networks"),
      choose("x", "across"),
      choose("y", "up"),
      choose("color", "colour"),
      h(
        "label",
        {},
        h("input", {
          type: "checkbox",
          name: "front",
          checked: this.front,
          on: {
            change: (event) => {
              this.front = event.target.checked
              setParams({ front: this.front ? null : "off" })
              this.#draw()
            },
          },
        }),
        "Pareto front",
      ),
      h("span", { class: "grow" }),
      this.clear,
      h("span", { class: "segments", role: "group", "aria-label": "Dragging" }, buttons),
    )
  }

  async #axis(axis, field) {
    this.axes[axis] = field
    setParams({ [axis]: field === this.start[axis] ? null : field, ...(axis === "color" ? {} : { select: null }) })
    if (axis !== "color") {
      this.#select(null)
      this.chart.view = null
    }
    if (this.points) await this.#draw()
  }

  #mode(mode, buttons, modes) {
    this.mode = mode
    this.chart.setMode(mode)
    for (const [place, button] of buttons.entries())
      button.setAttribute("aria-pressed", String(modes[place][0] === mode))
  }

  async #draw() {
    if (!this.points) return
    const [x, y, shade] = await Promise.all(AXES.map((axis) => this.#values(this.axes[axis])))
    const drawable = this.works && x.some((value, place) => value != null && y[place] != null)
    this.chart.element.hidden = !drawable
    this.empty.hidden = drawable
    if (!drawable) return this.#showEmpty()
    this.shown = { x, y, shade }
    const { selection } = this
    const picked = selection && inside(selection, x, y)
    const front = this.front ? paretoFront(x, y, BETTER[this.axes.x], BETTER[this.axes.y]) : []
    this.chart.show({ x, y, shade, front, selection, picked, axes: this.#words() })
    this.#say(picked)
    if (picked) this.onSelect(picked.map((place) => this.points.id[place]))
  }

  #words() {
    const words = (field) => ({
      title: fieldName(field),
      format: FRACTIONS.has(field) ? (value) => percent(value, 1).replace(".0 %", " %") : short,
    })
    return Object.fromEntries(AXES.map((axis) => [axis, words(this.axes[axis])]))
  }

  #select(selection) {
    const ended = this.selection && !selection
    this.selection = selection
    setParams({ select: selection && formatSelection(selection), page_token: null })
    if (!this.shown) return
    const picked = selection && inside(selection, this.shown.x, this.shown.y)
    this.chart.select(selection, picked)
    this.#say(picked)
    if (ended || selection) this.onSelect(picked ? picked.map((place) => this.points.id[place]) : null)
  }

  #say(picked) {
    const all = this.points.id.length
    this.clear.hidden = !picked
    this.words.textContent = picked
      ? `${count(picked.length)} of ${count(all)} networks are selected; the table below shows them.`
      : `${this.#coverage()}. Drag over points to filter the table; click one to open it.`
    const [y, x, color] = ["y", "x", "color"].map((axis) => fieldName(this.axes[axis]))
    this.chart.element.setAttribute(
      "aria-label",
      `Scatter plot of ${y} against ${x}, coloured by ${color}. The table below has the same networks.`,
    )
    if (picked) announce(this.words.textContent)
  }

  /** Says how many networks have a place in the picture, and on which device model. */
  #coverage() {
    const { id, throughput_device } = this.points
    const { x, y } = this.shown
    const placed = x.filter((value, place) => value != null && y[place] != null).length
    const drawn = placed < id.length ? `${count(placed)} of ${count(id.length)} networks` : `${count(placed)} networks`
    const names = AXES.map((axis) => this.axes[axis]).filter((field) => PER_DEVICE.includes(field))
    return names.length && throughput_device
      ? `${drawn}; ${names.map(fieldName).join(" and ")} on ${throughput_device}`
      : drawn
  }

  #showEmpty() {
    const { counts } = this.context.sweep
    const waiting = counts.pending + counts.running
    const filtered = this.context.filters.texts.length
    this.words.textContent = ""
    this.empty.replaceChildren(
      !this.works
        ? emptyState("No picture here", "This browser has no WebGL. The table below has every network.")
        : filtered
          ? emptyState("Nothing passes these filters", "Remove one, or widen a range.")
          : waiting
            ? emptyState(
                "No results yet",
                "They appear here as workers finish groups. Without any for a minute, start a worker: convsweep worker.",
              )
            : emptyState(
                "No network with results",
                "Every network was invalid, rejected by a gate, or failed. The filter status=rejected shows why.",
              ),
    )
  }

  #hover(place, event) {
    this.card.hidden = place === null
    if (place === null) return
    const rows = [...new Set(Object.values(this.axes))].map((field) => {
      const axis = AXES.find((one) => this.axes[one] === field)
      return [
        fieldName(field),
        format(field, { x: this.shown.x, y: this.shown.y, color: this.shown.shade }[axis][place]),
      ]
    })
    this.card.replaceChildren(
      network(this.context.space.at(this.points.space_index[place])),
      h(
        "dl",
        {},
        rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
      ),
      h("span", { class: "muted small" }, `job ${this.points.id[place]} · click to open`),
    )
    const { clientX, clientY } = event
    this.card.style.left = `${Math.max(8, Math.min(clientX + 16, innerWidth - 276))}px`
    this.card.style.top = `${Math.max(8, Math.min(clientY + 16, innerHeight - this.card.offsetHeight - 8))}px`
  }
}

export function format(field, value) {
  if (value == null) return "–"
  if (FRACTIONS.has(field)) return percent(value, 2)
  if (field === "parameters" || field === "flops") return short(value)
  if (field === "fitness") return decimal(value)
  return significant(value)
}

/** Places of the points that no other beats, from left to right; none where a field has no better end. */
export function paretoFront(x, y, betterX, betterY) {
  if (!betterX || !betterY) return []
  const places = [...x.keys()].filter((place) => x[place] != null && y[place] != null)
  places.sort((a, b) => betterX * (x[b] - x[a]) || betterY * (y[b] - y[a]))
  const front = []
  let best = -Infinity
  for (const place of places)
    if (betterY * y[place] > best) {
      best = betterY * y[place]
      front.push(place)
    }
  return front.sort((a, b) => x[a] - x[b])
}

const rounded = (value) => Number(value.toPrecision(6))

/** A selection as the address can keep it. */
function inWords({ x, y, lasso }) {
  const step = lasso ? Math.ceil(x.length / 60) : 1
  const kept = [...x.keys()].filter((place) => place % step === 0)
  return { x: kept.map((place) => rounded(x[place])), y: kept.map((place) => rounded(y[place])), lasso }
}

const formatSelection = ({ x, y, lasso }) => `${lasso ? "lasso" : "box"}:${x.join(",")};${y.join(",")}`

function parseSelection(text) {
  const found = /^(box|lasso):([-\d.e+,]+);([-\d.e+,]+)$/.exec(text ?? "")
  if (!found) return null
  const [x, y] = [found[2], found[3]].map((part) => part.split(",").map(Number))
  return x.length === y.length && x.length >= 2 && [...x, ...y].every(Number.isFinite)
    ? { x, y, lasso: found[1] === "lasso" }
    : null
}

/** Places of the points within a selection. */
function inside(selection, x, y) {
  const within = selection.lasso
    ? inLasso
    : ({ x: [x0, x1], y: [y0, y1] }, px, py) => px >= x0 && px <= x1 && py >= y0 && py <= y1
  return [...x.keys()].filter((place) => x[place] != null && y[place] != null && within(selection, x[place], y[place]))
}

function inLasso({ x, y }, px, py) {
  let odd = false
  for (let i = 0, j = x.length - 1; i < x.length; j = i++) {
    if (y[i] > py !== y[j] > py && px < ((x[j] - x[i]) * (py - y[i])) / (y[j] - y[i]) + x[i]) odd = !odd
  }
  return odd
}
