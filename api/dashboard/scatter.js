// Every network of a sweep as a point; any numeric field on either axis and as colour.

import { askColumns } from "./api.js"
import { announce, count, decimal, emptyState, fieldName, h, network, percent, short, significant } from "./dom.js"
import { color, colorscale, CONFIG, hasWebgl, layout, plotly } from "./plot.js"
import { here, link, setParams } from "./route.js"

export const POINT_FIELDS = ["accuracy", "accuracy_sd", "train_accuracy", "throughput", "ratio", "parameters", "flops", "fit_seconds", "trials", "fitness"]
// which way is better, for the front that no other network beats
const BETTER = { accuracy: 1, train_accuracy: 1, throughput: 1, fitness: 1, parameters: -1, flops: -1, fit_seconds: -1, ratio: -1 }
const FRACTIONS = new Set(["accuracy", "accuracy_sd", "train_accuracy"])
const AXES = ["x", "y", "color"]

export class Scatter {
  /** @param {(ids: number[] | null) => void} onSelect told when a selection begins, changes or ends */
  constructor(context, onSelect) {
    this.context = context
    this.onSelect = onSelect
    const { params } = here()
    this.fields = [...POINT_FIELDS, ...context.space.varied_numbers()]
    const start = { x: context.sweep.protocol.timing ? "throughput" : "flops", y: "accuracy", color: "ratio" }
    this.axes = Object.fromEntries(AXES.map((axis) => [axis, this.fields.includes(params.get(axis)) ? params.get(axis) : start[axis]]))
    this.start = start
    this.front = params.get("front") !== "off"
    this.selection = parseSelection(params.get("select"))
    this.mode = matchMedia("(max-width: 640px)").matches ? "off" : "select"
    this.columns = new Map()
    this.type = null
    this.chart = h("div", { class: "chart", role: "img", "aria-describedby": "scatter-words" })
    this.empty = h("div", { hidden: true })
    this.words = h("p", { class: "muted small", id: "scatter-words", "aria-live": "polite" })
    this.card = h("div", { class: "hovercard", hidden: true })
    document.body.append(this.card)
    context.signal.addEventListener("abort", () => { this.card.remove(); if (window.Plotly) window.Plotly.purge(this.chart) }, { once: true })
    this.element = h("section", { class: "card", "aria-label": "Scatter plot" }, this.#controls(), this.chart, this.empty, this.words)
  }

  /** Fetches what the axes need and draws it. */
  async load() {
    const turn = (this.turn = Symbol())
    this.columns.clear()
    const wanted = [...new Set(Object.values(this.axes))].filter((field) => POINT_FIELDS.includes(field))
    try {
      const coming = Promise.all([this.#fetch(wanted), plotly()])
      this.type ??= hasWebgl() ? "scattergl" : "scatter" // while the points are on their way
      const [points] = await coming
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
    const choose = (axis, title) => h("label", {}, title, h("select", { name: axis, on: { change: (event) => this.#axis(axis, event.target.value) } },
      this.fields.map((field) => h("option", { value: field, selected: field === this.axes[axis] }, fieldName(field)))))
    const modes = [["select", "Box"], ["lasso", "Lasso"], ["zoom", "Zoom"]]
    const buttons = modes.map(([mode, title]) => h("button", { type: "button", "aria-pressed": mode === this.mode, title: { select: "Drag a box to filter the table", lasso: "Draw around networks to filter the table", zoom: "Drag to zoom; double click to see all" }[mode], on: { click: () => this.#mode(mode, buttons, modes) } }, title))
    this.clear = h("button", { type: "button", hidden: true, on: { click: () => this.#select(null, true) } }, "Clear selection")
    return h("div", { class: "row" }, h("h2", { class: "grow unseen" }, "All networks"),
      choose("x", "across"), choose("y", "up"), choose("color", "colour"),
      h("label", {}, h("input", { type: "checkbox", name: "front", checked: this.front, on: { change: (event) => { this.front = event.target.checked; setParams({ front: this.front ? null : "off" }); this.#draw() } } }), "Pareto front"),
      h("span", { class: "grow" }), this.clear, h("span", { class: "segments", role: "group", "aria-label": "Dragging" }, buttons))
  }

  async #axis(axis, field) {
    this.axes[axis] = field
    setParams({ [axis]: field === this.start[axis] ? null : field, ...(axis === "color" ? {} : { select: null }) })
    if (axis !== "color") this.#select(null)
    if (this.points) await this.#draw()
  }

  #mode(mode, buttons, modes) {
    this.mode = mode
    buttons.forEach((button, place) => button.setAttribute("aria-pressed", modes[place][0] === mode))
    if (this.chart.layout) window.Plotly.relayout(this.chart, { dragmode: mode })
  }

  async #draw() {
    if (!this.points) return
    const [x, y, shade] = await Promise.all(AXES.map((axis) => this.#values(this.axes[axis])))
    const drawable = x.some((value, place) => value != null && y[place] != null)
    this.chart.hidden = !drawable
    this.empty.hidden = drawable
    if (!drawable) return this.#showEmpty()
    const Plotly = await plotly()
    this.shown = { x, y, shade }
    const picked = this.selection && inside(this.selection, x, y)
    await Plotly.react(this.chart, this.#traces(picked), this.#layout(), { ...CONFIG, doubleClick: "reset+autosize" })
    if (!this.listening) this.#listen(Plotly)
    this.chart.dataset.points = x.length
    this.#say(picked)
    if (picked) this.onSelect(picked.map((place) => this.points.id[place]))
  }

  #traces(picked) {
    const { x, y, shade } = this.shown
    const size = x.length > 20_000 ? 3.5 : x.length > 3_000 ? 5 : 8
    const fraction = FRACTIONS.has(this.axes.color)
    const points = {
      type: this.type, mode: "markers", x, y, hoverinfo: "none", selectedpoints: picked ?? undefined,
      marker: { size, color: shade, colorscale: colorscale(), opacity: x.length > 3_000 ? 0.7 : 0.85, showscale: true,
        colorbar: { title: { text: fieldName(this.axes.color), side: "right" }, thickness: 10, outlinewidth: 0, tickformat: fraction ? ".0%" : undefined, len: 1 } },
      selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.08 } },
    }
    const front = this.front ? paretoFront(x, y, BETTER[this.axes.x], BETTER[this.axes.y]) : []
    // as SVG: a WebGL line has more shaders to compile than all points together
    const line = { type: "scatter", mode: "lines+markers", name: "Pareto front", hoverinfo: "skip", x: front.map((place) => x[place]), y: front.map((place) => y[place]),
      line: { color: color("ink"), width: 1.5 }, marker: { size: size + 3, color: "rgba(0,0,0,0)", line: { color: color("ink"), width: 1.5 } } }
    return [points, line]
  }

  #layout() {
    const axis = (name) => ({ title: { text: fieldName(this.axes[name]), standoff: 10 }, tickformat: FRACTIONS.has(this.axes[name]) ? ".0%" : undefined })
    return layout({ xaxis: axis("x"), yaxis: axis("y"), dragmode: this.mode === "off" ? false : this.mode, hovermode: "closest", selections: this.selection ? [shape(this.selection)] : [],
      uirevision: `${this.axes.x} ${this.axes.y}`, newselection: { line: { color: color("accent") } }, activeselection: { fillcolor: color("accent"), opacity: 0.08 } })
  }

  #listen(Plotly) {
    this.listening = true
    this.chart.on("plotly_hover", (event) => this.#hover(event))
    this.chart.on("plotly_unhover", () => { this.card.hidden = true })
    this.chart.on("plotly_click", (event) => { if (event.points[0]?.curveNumber === 0 && this.mode !== "lasso") location.hash = link(["jobs", this.points.id[event.points[0].pointNumber]]).slice(1) })
    this.chart.on("plotly_selected", (event) => { if (event?.range || event?.lassoPoints) this.#select(selectionOf(event)) })
    this.chart.on("plotly_deselect", () => this.#select(null))
    document.addEventListener("themechange", () => this.#draw(), { signal: this.context.signal })
    this.chart.addEventListener("mouseleave", () => { this.card.hidden = true })
    void Plotly
  }

  #select(selection, redraw = false) {
    const ended = this.selection && !selection
    this.selection = selection
    setParams({ select: selection && formatSelection(selection), page_token: null })
    const picked = selection && inside(selection, this.shown.x, this.shown.y)
    this.#say(picked)
    if (ended || selection) this.onSelect(picked && picked.map((place) => this.points.id[place]))
    if (redraw) this.#draw()
  }

  #say(picked) {
    const { length } = this.points.id
    this.clear.hidden = !picked
    this.words.textContent = picked ? `${count(picked.length)} of ${count(length)} networks are selected; the table below shows them.`
      : `${count(length)} networks${this.points.device.length ? ` measured on ${this.points.device.join(", ")}` : ""}. Drag over points to filter the table; click one to open it.`
    this.chart.setAttribute("aria-label", `Scatter plot of ${fieldName(this.axes.y)} against ${fieldName(this.axes.x)}, coloured by ${fieldName(this.axes.color)}. The table below has the same networks.`)
    if (picked) announce(this.words.textContent)
  }

  #showEmpty() {
    const { counts } = this.context.sweep
    const waiting = counts.pending + counts.running
    const filtered = this.context.filters.texts.length
    this.words.textContent = ""
    this.empty.replaceChildren(filtered ? emptyState("Nothing passes these filters", "Take one away, or widen a range.")
      : waiting ? emptyState("No results yet", "They appear here as workers finish groups. If nothing moves for a minute, look whether a worker runs: convsweep worker.")
        : emptyState("No completed network", "Every network of this sweep was invalid, rejected by a gate, or failed. The filter status=rejected shows why; looser gates in a new sweep let more through."))
  }

  #hover(event) {
    const point = event.points.find((one) => one.curveNumber === 0)
    if (!point) return
    const place = point.pointNumber
    const rows = [...new Set(Object.values(this.axes))].map((field) => {
      const axis = AXES.find((one) => this.axes[one] === field)
      return [fieldName(field), format(field, { x: this.shown.x, y: this.shown.y, color: this.shown.shade }[axis][place])]
    })
    this.card.replaceChildren(network(this.context.space.at(this.points.space_index[place])),
      h("dl", {}, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])), h("span", { class: "muted small" }, `job ${this.points.id[place]} · click to open`))
    this.card.hidden = false
    const { clientX, clientY } = event.event
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
  for (const place of places) if (betterY * y[place] > best) { best = betterY * y[place]; front.push(place) }
  return front.sort((a, b) => x[a] - x[b])
}

const rounded = (value) => Number(value.toPrecision(6))

function selectionOf(event) {
  const box = event.range
  if (box) return { x: [...box.x].sort((a, b) => a - b).map(rounded), y: [...box.y].sort((a, b) => a - b).map(rounded), lasso: false }
  const { x, y } = event.lassoPoints
  const step = Math.ceil(x.length / 60) // a URL takes so much
  const kept = [...x.keys()].filter((place) => place % step === 0)
  return { x: kept.map((place) => rounded(x[place])), y: kept.map((place) => rounded(y[place])), lasso: true }
}

const formatSelection = ({ x, y, lasso }) => `${lasso ? "lasso" : "box"}:${x.join(",")};${y.join(",")}`

function parseSelection(text) {
  const found = /^(box|lasso):([-\d.e+,]+);([-\d.e+,]+)$/.exec(text ?? "")
  if (!found) return null
  const [x, y] = [found[2], found[3]].map((part) => part.split(",").map(Number))
  return x.length === y.length && x.length >= 2 && [...x, ...y].every(Number.isFinite) ? { x, y, lasso: found[1] === "lasso" } : null
}

function shape({ x, y, lasso }) {
  if (!lasso) return { type: "rect", x0: x[0], x1: x[1], y0: y[0], y1: y[1] }
  return { type: "path", path: `M${x.map((value, place) => `${value},${y[place]}`).join("L")}Z` }
}

/** Places of the points within a selection. */
function inside(selection, x, y) {
  const within = selection.lasso ? inLasso : ({ x: [x0, x1], y: [y0, y1] }, px, py) => px >= x0 && px <= x1 && py >= y0 && py <= y1
  return [...x.keys()].filter((place) => x[place] != null && y[place] != null && within(selection, x[place], y[place]))
}

function inLasso({ x, y }, px, py) {
  let odd = false
  for (let i = 0, j = x.length - 1; i < x.length; j = i++) {
    if (y[i] > py !== y[j] > py && px < ((x[j] - x[i]) * (py - y[i])) / (y[j] - y[i]) + x[i]) odd = !odd
  }
  return odd
}
