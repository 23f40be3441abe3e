// Parallel coordinates of tens of thousands of networks, drawn in short slices on a canvas.

import { h, s } from "../lib/dom.js"
import { extent, ticks } from "./axes.js"
import { color, colorSteps, gradient } from "./palette.js"

const MARGIN = { left: 20, right: 62, top: 52, bottom: 16 }
const HIT_PX = 26 // width of the strip along an axis that takes a drag
const STILL_PX = 4
const STEPS = 48 // colours
const FRAME_MS = 40 // between two slices; fewer lines follow a slower frame
const FIRST_SLICE = 150 // lines
const JITTER = 0.34 // of the distance between two levels, to either side
const GOLDEN = (Math.sqrt(5) - 1) / 2 // its multiples modulo 1 fill the interval evenly

/**
 * @typedef {object} Axis
 * @property {string} label
 * @property {Float32Array} places from 0 (bottom) to 1 (top), one per line
 * @property {[number, string][]} marks places with their words
 */

/**
 * An axis of a setting: its levels at equal distances, lines spread around each so that they stay apart.
 * @param {string} label
 * @param {(number | null)[]} values null where a network has no such layer
 * @returns {Axis}
 */
export function levelAxis(label, values) {
  const levels = [...new Set(values)].sort((a, b) => (a ?? -Infinity) - (b ?? -Infinity))
  const places = new Map(levels.map((level, rank) => [level, (rank + 0.5) / levels.length]))
  const spread = JITTER / levels.length
  const jittered = Float32Array.from(values, (value, line) => {
    return (places.get(value) ?? 0) + (2 * ((line * GOLDEN) % 1) - 1) * spread
  })
  const step = Math.ceil(levels.length / 12)
  const marks = levels.filter((_, rank) => rank % step === 0)
  return { label, places: jittered, marks: marks.map((level) => [places.get(level) ?? 0, String(level ?? "none")]) }
}

/**
 * An axis of a measurement.
 * @param {string} label
 * @param {number[]} values
 * @param {(value: number) => string} format
 * @returns {Axis}
 */
export function numberAxis(label, values, format) {
  const range = extent(values) ?? [0, 1]
  const span = range[1] - range[0]
  const place = (/** @type {number} */ value) => (span ? (value - range[0]) / span : 0.5)
  const marks = span ? ticks(range, 5) : [range[0]]
  return {
    label,
    places: Float32Array.from(values, place),
    marks: marks.map((value) => [place(value), format(value)]),
  }
}

export class Parallel {
  /**
   * @param {Axis[]} axes the last one gives the lines their colour
   * @param {(kept: number | null) => void} onKeep gets the number of lines within all ranges; null without a range
   * @param {AbortSignal} signal
   */
  constructor(axes, onKeep, signal) {
    this.axes = axes
    this.target = axes[axes.length - 1]
    this.onKeep = onKeep
    this.signal = signal
    /** @type {Map<Axis, [number, number]>} */
    this.ranges = new Map()
    this.turn = 0
    this.width = 0
    const shade = this.target.places
    this.order = Uint32Array.from(shade, (_, line) => line).sort((a, b) => shade[a] - shade[b]) // the best lie on top
    const names = axes.map((axis) => axis.label).join(", ")
    this.canvas = h("canvas", { role: "img", "aria-label": `${shade.length} networks as lines across ${names}` })
    this.overlay = s("svg")
    this.element = h(
      "div",
      { class: "chart parallel", style: { "min-width": `${72 * axes.length + MARGIN.right}px` } },
      this.canvas,
      this.overlay,
    )
    document.addEventListener("themechange", () => this.draw(), { signal })
    const watching = new ResizeObserver(() => {
      if (this.element.clientWidth !== this.width) this.draw()
    })
    watching.observe(this.element)
    signal.addEventListener("abort", () => watching.disconnect(), { once: true })
  }

  /** @param {number} place of an axis */
  #x(place) {
    const last = Math.max(1, this.axes.length - 1)
    return MARGIN.left + (place * (this.width - MARGIN.left - MARGIN.right)) / last
  }

  /** @param {number} share from 0 to 1 */
  #y(share) {
    return MARGIN.top + (1 - share) * (this.height - MARGIN.top - MARGIN.bottom)
  }

  /** Draws everything; a drawing in progress ends. */
  draw() {
    this.width = this.element.clientWidth
    this.height = this.element.clientHeight
    if (!this.width) return
    this.#decorate()
    this.#drawLines()
  }

  /** Which lines lie within every range; null without a range. */
  #kept() {
    if (!this.ranges.size) return null
    const kept = new Uint8Array(this.order.length).fill(1)
    for (const [axis, [low, high]] of this.ranges) {
      for (let line = 0; line < kept.length; line++) {
        if (axis.places[line] < low || axis.places[line] > high) kept[line] = 0
      }
    }
    return kept
  }

  async #drawLines() {
    const turn = ++this.turn
    const kept = this.#kept()
    this.onKeep(kept ? kept.reduce((sum, one) => sum + one, 0) : null)
    const pen = this.#pen()
    if (!pen) return
    this.element.setAttribute("aria-busy", "true")
    const lines = kept ? [0, 1].flatMap((side) => [...this.order.filter((line) => kept[line] === side)]) : this.order
    const opacity = lines.length > 20_000 ? 0.12 : lines.length > 2_000 ? 0.3 : 0.65
    const styles = colorSteps(STEPS, opacity)
    const faint = color("line")
    let slice = FIRST_SLICE
    let before = performance.now()
    for (let start = 0; start < lines.length; ) {
      const end = Math.min(lines.length, start + slice)
      for (let at = start; at < end; at++) {
        const line = lines[at]
        pen.strokeStyle = kept && !kept[line] ? faint : styles[Math.round(this.target.places[line] * (STEPS - 1))]
        this.#stroke(pen, line)
      }
      start = end
      await new Promise((resolve) => requestAnimationFrame(resolve))
      if (turn !== this.turn || this.signal.aborted) return
      // a frame includes painting, which takes longer than the calls that ask for it
      const now = performance.now()
      slice = Math.round(Math.max(50, Math.min(2 * slice, (slice * FRAME_MS) / (now - before))))
      before = now
    }
    this.element.setAttribute("aria-busy", "false")
    this.element.dataset.lines = String(lines.length)
  }

  /** A cleared canvas that is drawn on in device pixels: lines of one pixel are the fastest. */
  #pen() {
    const { canvas } = this
    canvas.width = Math.round(this.width * devicePixelRatio)
    canvas.height = Math.round(this.height * devicePixelRatio)
    const pen = canvas.getContext("2d")
    if (!pen) return null
    pen.lineWidth = 1
    const last = this.axes.map((_, place) => this.#x(place) * devicePixelRatio)
    this.at = { x: last, top: this.#y(1) * devicePixelRatio, up: (this.#y(0) - this.#y(1)) * devicePixelRatio }
    return pen
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {number} line
   */
  #stroke(pen, line) {
    const { x, top, up } = /** @type {NonNullable<typeof this.at>} */ (this.at)
    pen.beginPath()
    for (let place = 0; place < this.axes.length; place++) {
      pen.lineTo(x[place], top + (1 - this.axes[place].places[line]) * up)
    }
    pen.stroke()
  }

  /** Draws axes, names, marks and ranges over the lines. */
  #decorate() {
    const [top, bottom] = [this.#y(1), this.#y(0)]
    this.overlay.replaceChildren(
      gradient("parallel-colours"),
      ...this.axes.map((axis, place) => this.#axis(axis, this.#x(place), top, bottom)),
    )
  }

  /**
   * @param {Axis} axis
   * @param {number} x
   * @param {number} top
   * @param {number} bottom
   */
  #axis(axis, x, top, bottom) {
    const words = axis.label.split(" ")
    const half = axis.label.length > 11 && words.length > 1 ? words.length - 1 : words.length
    const lines = [words.slice(0, half).join(" "), words.slice(half).join(" ")].filter(Boolean)
    const name = s(
      "g",
      {
        class: "name",
        tabindex: 0,
        role: "button",
        "aria-label": `Axis ${axis.label}. Arrow keys move it, Delete removes its range.`,
        on: {
          pointerdown: (/** @type {PointerEvent} */ event) => this.#dragName(axis, event),
          keydown: (/** @type {KeyboardEvent} */ event) => this.#key(axis, event),
        },
      },
      lines.map((line, row) =>
        s("text", { x, y: top - 14 - 14 * (lines.length - 1 - row), "text-anchor": "middle" }, line),
      ),
    )
    const range = this.ranges.get(axis)
    const [high, low] = range ? [this.#y(range[1]), this.#y(range[0])] : [0, 0]
    const shaded = axis === this.target
    return s(
      "g",
      { class: "axis" },
      shaded
        ? s("rect", { x: x - 3, y: top, width: 6, height: bottom - top, rx: 2, fill: "url(#parallel-colours)" })
        : s("line", { x1: x, x2: x, y1: top, y2: bottom }),
      axis.marks.map(([share, text]) => s("text", { class: "mark", x: x + 7, y: this.#y(share) + 4 }, text)),
      range && s("rect", { class: "range", x: x - 7, y: high, width: 14, height: Math.max(2, low - high) }),
      s("rect", {
        class: "hit",
        x: x - HIT_PX / 2,
        y: top,
        width: HIT_PX,
        height: bottom - top,
        on: { pointerdown: (/** @type {PointerEvent} */ event) => this.#dragRange(axis, event) },
      }),
      name,
    )
  }

  /**
   * Keeps the range that is dragged along an axis; a click removes it.
   * @param {Axis} axis
   * @param {PointerEvent} event
   */
  #dragRange(axis, event) {
    if (event.button !== 0) return
    const share = (/** @type {PointerEvent} */ at) => {
      const y = at.clientY - this.overlay.getBoundingClientRect().y
      return Math.min(1, Math.max(0, 1 - (y - this.#y(1)) / (this.#y(0) - this.#y(1))))
    }
    const start = share(event)
    this.#follow(event, (at, moved) => {
      const end = share(at)
      if (moved) this.ranges.set(axis, [Math.min(start, end), Math.max(start, end)])
      else this.ranges.delete(axis)
    })
  }

  /**
   * Moves an axis to where its name is dropped.
   * @param {Axis} axis
   * @param {PointerEvent} event
   */
  #dragName(axis, event) {
    if (event.button !== 0) return
    const box = this.overlay.getBoundingClientRect()
    this.#follow(event, (at, moved) => {
      if (!moved) return
      const step = this.#x(1) - this.#x(0)
      this.#move(axis, Math.round((at.clientX - box.x - MARGIN.left) / step))
    })
  }

  /**
   * Calls `change` for each move of a pointer until it is released; then draws the lines again.
   * @param {PointerEvent} event
   * @param {(at: PointerEvent, moved: boolean) => void} change
   */
  #follow(event, change) {
    event.preventDefault()
    const ending = new AbortController()
    let moved = false
    const follow = (/** @type {PointerEvent} */ at) => {
      moved ||= Math.hypot(at.clientX - event.clientX, at.clientY - event.clientY) > STILL_PX
      change(at, moved)
      this.#decorate()
    }
    const end = (/** @type {PointerEvent} */ at) => {
      ending.abort()
      follow(at)
      this.draw()
    }
    const { signal } = ending
    window.addEventListener("pointermove", follow, { signal })
    window.addEventListener("pointerup", end, { signal })
    window.addEventListener("pointercancel", end, { signal })
  }

  /**
   * @param {Axis} axis
   * @param {number} place
   */
  #move(axis, place) {
    const others = this.axes.filter((other) => other !== axis)
    others.splice(Math.max(0, Math.min(others.length, place)), 0, axis)
    this.axes = others
  }

  /**
   * @param {Axis} axis
   * @param {KeyboardEvent} event
   */
  #key(axis, event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
    if (step) this.#move(axis, this.axes.indexOf(axis) + step)
    else if (!["Delete", "Backspace"].includes(event.key) || !this.ranges.delete(axis)) return
    event.preventDefault()
    this.draw()
    const names = /** @type {NodeListOf<SVGElement>} */ (this.overlay.querySelectorAll(".name"))
    names[this.axes.indexOf(axis)]?.focus()
  }
}
