// A picture of points that is hovered over, clicked, zoomed, and selected from by box or lasso.

import { h, s } from "../lib/dom.js"
import { Axes, extent, roomy } from "./axes.js"
import { color, colorStops, rgb } from "./palette.js"
import { LIT, Points } from "./points.js"

const NEAR_PX = 12
const STILL_PX = 4

export class Chart {
  /** @param {{onHover, onOpen, onSelect}} listener called with a point's place (or null), a place, a selection (or null) */
  constructor(listener, signal) {
    this.listener = listener
    this.mode = "select"
    this.view = null // what a zoom shows; null for everything
    this.axes = new Axes()
    this.points = new Points()
    this.points.onRestored = () => this.show(this.data)
    this.overlay = s("svg", { class: "overlay" })
    this.element = h("div", { class: "chart points", role: "img" }, this.axes.back, this.points.canvas, this.overlay)
    this.overlay.addEventListener("pointerdown", (event) => this.#press(event))
    this.overlay.addEventListener("pointermove", (event) => this.#move(event))
    this.overlay.addEventListener("pointerup", (event) => this.#release(event))
    this.overlay.addEventListener("pointercancel", () => {
      this.drag = null
      this.#decorate()
    })
    this.overlay.addEventListener("pointerleave", () => this.listener.onHover(null))
    this.overlay.addEventListener("dblclick", () => {
      this.view = null
      this.listener.onSelect(null)
      this.draw()
    })
    document.addEventListener("themechange", () => this.draw(), { signal })
    const watching = new ResizeObserver(() => this.draw())
    watching.observe(this.element)
    signal.addEventListener(
      "abort",
      () => {
        watching.disconnect()
        this.points.end()
      },
      { once: true },
    )
  }

  /** Makes ready to draw; returns whether this browser can. */
  start() {
    this.points.start()
    return this.points.gl !== null
  }

  setMode(mode) {
    this.mode = mode
    this.overlay.setAttribute("class", `overlay ${mode}`)
  }

  /** Shows columns of values; `axes` has title and format of x, y and color, `front` places in order. */
  show(data) {
    const { x, y, shade } = data
    this.data = data
    this.whole = { x: roomy(extent(x)), y: roomy(extent(y)) }
    this.colours = extent(shade)
    const place = new Float32Array(2 * x.length)
    const tone = new Float32Array(x.length)
    const [low, high] = this.colours ?? [0, 0]
    const unit = (value, [from, to]) => (value == null ? -9 : (value - from) / (to - from)) // -9 lies outside
    for (let i = 0; i < x.length; i++) {
      place[2 * i] = unit(x[i], this.whole.x)
      place[2 * i + 1] = unit(y[i], this.whole.y)
      tone[i] = shade[i] == null ? -1 : high > low ? (shade[i] - low) / (high - low) : 0.5
    }
    this.points.set("place", place)
    this.points.set("shade", tone)
    this.select(data.selection, data.picked)
    this.element.dataset.points = x.length
  }

  /** Puts a selection on the picture; `picked` are the places of the points within. */
  select(selection, picked) {
    this.data.selection = selection
    const lit = new Float32Array(this.data.x.length).fill(picked ? LIT.left : LIT.usual)
    for (const place of picked ?? []) lit[place] = LIT.picked
    this.points.set("lit", lit)
    this.draw()
  }

  draw() {
    const { clientWidth, clientHeight } = this.element
    if (!this.data || !clientWidth) return
    const { axes, points } = this
    const range = this.view ?? this.whole
    axes.fit(clientWidth, clientHeight)
    const { x, y, color: shade } = this.data.axes
    axes.draw({
      x: { ...x, range: range.x },
      y: { ...y, range: range.y },
      color: { ...shade, range: this.colours },
    })
    this.#fit(points.canvas)
    const unit = (value, [from, to]) => (value - from) / (to - from)
    const low = [unit(range.x[0], this.whole.x), unit(range.y[0], this.whole.y)]
    const span = [unit(range.x[1], this.whole.x) - low[0], unit(range.y[1], this.whole.y) - low[1]]
    const many = this.data.x.length
    const size = many > 20_000 ? 3.5 : many > 3_000 ? 5 : 8
    points.draw({
      low,
      span,
      size: size * devicePixelRatio,
      opacity: many > 3_000 ? 0.7 : 0.85,
      stops: colorStops().flatMap(rgb),
      unknown: rgb(color("muted")),
    })
    this.#decorate()
  }

  #fit(canvas) {
    const { left, top, across, up } = this.axes
    for (const [name, value] of Object.entries({ left, top, width: across, height: up }))
      canvas.style.setProperty(name, `${value}px`)
    const [width, height] = [across, up].map((length) => Math.round(length * devicePixelRatio))
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
  }

  /** What lies over the points: the front, the selection, and what is being dragged. */
  #decorate() {
    const { axes } = this
    const { x, y, front, selection } = this.data
    const at = (place) => [axes.x(x[place]), axes.y(y[place])]
    const path = (corners) => `M${corners.map((corner) => corner.join(",")).join("L")}Z`
    const area = { x: axes.left, y: axes.top, width: axes.across, height: axes.up }
    const dragged = this.drag?.moved ? this.#cornersOf(this.drag.corners) : null
    this.overlay.replaceChildren(
      s("defs", {}, s("clipPath", { id: "plane" }, s("rect", area))),
      s("rect", { class: "plane", ...area }),
      s(
        "g",
        { "clip-path": "url(#plane)" },
        s("polyline", { class: "front", points: front.map((place) => at(place).join(",")).join(" ") }),
        front.map((place) => {
          const [cx, cy] = at(place)
          return s("circle", { class: "front", cx, cy, r: 4.5 })
        }),
        selection &&
          s("path", { class: "selection", d: path(cornersOf(selection).map(([vx, vy]) => [axes.x(vx), axes.y(vy)])) }),
        dragged && s("path", { class: "selection", d: path(dragged) }),
      ),
    )
  }

  #cornersOf(corners) {
    if (this.mode === "lasso") return corners
    const [[x0, y0], [x1, y1]] = [corners[0], corners.at(-1)]
    return [
      [x0, y0],
      [x1, y0],
      [x1, y1],
      [x0, y1],
    ]
  }

  /** @returns {[number, number]} */
  #place(event) {
    const box = this.overlay.getBoundingClientRect()
    return [event.clientX - box.x, event.clientY - box.y]
  }

  #press(event) {
    if (event.button !== 0 || !this.data) return
    this.drag = { corners: [this.#place(event)], moved: false }
    if (this.mode !== "off") this.overlay.setPointerCapture(event.pointerId)
  }

  #move(event) {
    const position = this.#place(event)
    if (!this.drag) return this.listener.onHover(this.#nearest(position), event)
    const [x, y] = this.drag.corners[0]
    this.drag.moved ||= Math.hypot(position[0] - x, position[1] - y) > STILL_PX
    this.drag.corners.push(position)
    if (this.drag.moved && this.mode !== "off") {
      this.listener.onHover(null)
      this.#decorate()
    }
    return null
  }

  #release(event) {
    const { drag } = this
    this.drag = null
    if (!drag) return
    if (!drag.moved) {
      const nearest = this.#nearest(this.#place(event))
      if (nearest !== null) this.listener.onOpen(nearest)
      return
    }
    if (this.mode === "off") return
    const corners = this.#cornersOf([...drag.corners, this.#place(event)]).map(([px, py]) => this.axes.valuesAt(px, py))
    const [x, y] = [0, 1].map((part) => corners.map((corner) => corner[part]))
    const ends = (values) => [Math.min(...values), Math.max(...values)]
    if (this.mode === "zoom") {
      this.view = { x: ends(x), y: ends(y) }
      this.draw()
    } else
      this.listener.onSelect(this.mode === "lasso" ? { x, y, lasso: true } : { x: ends(x), y: ends(y), lasso: false })
  }

  /** The place of the point next to a pixel, or null where none is near. */
  #nearest([px, py]) {
    const { axes } = this
    const { x, y } = this.data ?? { x: [], y: [] }
    let least = NEAR_PX ** 2
    let nearest = null
    for (let i = 0; i < x.length; i++) {
      if (x[i] == null || y[i] == null) continue
      const away = (axes.x(x[i]) - px) ** 2 + (axes.y(y[i]) - py) ** 2
      if (away <= least) {
        least = away
        nearest = i
      }
    }
    return nearest
  }
}

/** The corners of a selection, in values. */
function cornersOf({ x, y, lasso }) {
  if (lasso) return x.map((value, place) => [value, y[place]])
  return [
    [x[0], y[0]],
    [x[1], y[0]],
    [x[1], y[1]],
    [x[0], y[1]],
  ]
}
