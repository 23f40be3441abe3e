// Two axes and a colour bar around a plotting area: where values lie, ticks and titles.

import { s } from "../lib/dom.js"
import { gradient } from "./palette.js"

const MARGIN = { left: 62, right: 84, top: 10, bottom: 46 }
const ROOM = 0.04 // beyond the outermost points
const BAR = { away: 20, width: 10 }

/** @typedef {[number, number]} Range low and high */

/**
 * The smallest and largest known value, or null where none is known.
 * @param {Iterable<number | null>} values
 * @returns {Range | null}
 */
export function extent(values) {
  let low = Infinity
  let high = -Infinity
  for (const value of values) {
    if (value == null) continue
    if (value < low) low = value
    if (value > high) high = value
  }
  return low <= high ? [low, high] : null
}

/**
 * An extent with room around it, also where all values are equal.
 * @param {Range} range
 * @returns {Range}
 */
export function roomy([low, high]) {
  const room = (high - low) * ROOM || Math.abs(low) * ROOM || 1
  return [low - room, high + room]
}

/**
 * Round numbers within a range, about `many` of them.
 * @param {Range} range
 * @param {number} many
 */
export function ticks([low, high], many) {
  const rough = (high - low) / many
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough)
  const first = Math.ceil(low / step)
  const last = Math.floor(high / step)
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, place) =>
    Number(((first + place) * step).toPrecision(12)),
  )
}

export class Axes {
  constructor() {
    this.back = s("svg", { "aria-hidden": true })
  }

  /** Takes the room there is; the plotting area is what the words leave. */
  fit(width, height) {
    this.width = width
    this.height = height
    this.left = MARGIN.left
    this.top = MARGIN.top
    this.across = Math.max(40, width - MARGIN.left - MARGIN.right)
    this.up = Math.max(40, height - MARGIN.top - MARGIN.bottom)
  }

  x(value) {
    return this.left + ((value - this.xRange[0]) / (this.xRange[1] - this.xRange[0])) * this.across
  }

  y(value) {
    return this.top + (1 - (value - this.yRange[0]) / (this.yRange[1] - this.yRange[0])) * this.up
  }

  /** The values at a pixel, kept within the plotting area. */
  valuesAt(px, py) {
    const share = (value) => Math.min(1, Math.max(0, value))
    return [
      this.xRange[0] + share((px - this.left) / this.across) * (this.xRange[1] - this.xRange[0]),
      this.yRange[0] + (1 - share((py - this.top) / this.up)) * (this.yRange[1] - this.yRange[0]),
    ]
  }

  /** Each of x, y, color is { range, title, format }. */
  draw({ x, y, color }) {
    this.xRange = x.range
    this.yRange = y.range
    const right = this.left + this.across
    const bottom = this.top + this.up
    const text = (more, words) => s("text", more, words)
    const grid = (one) => s("line", { class: "grid", ...one })
    this.back.replaceChildren(
      ...ticks(x.range, Math.max(3, this.across / 110)).flatMap((value) => [
        grid({ x1: this.x(value), x2: this.x(value), y1: this.top, y2: bottom }),
        text({ x: this.x(value), y: bottom + 17, "text-anchor": "middle" }, x.format(value)),
      ]),
      ...ticks(y.range, Math.max(3, this.up / 60)).flatMap((value) => [
        grid({ x1: this.left, x2: right, y1: this.y(value), y2: this.y(value) }),
        text({ x: this.left - 8, y: this.y(value) + 4, "text-anchor": "end" }, y.format(value)),
      ]),
      text({ class: "title", x: this.left + this.across / 2, y: bottom + 38, "text-anchor": "middle" }, x.title),
      text(
        { class: "title", transform: `translate(13 ${this.top + this.up / 2}) rotate(-90)`, "text-anchor": "middle" },
        y.title,
      ),
      ...this.#bar(color, right + BAR.away),
    )
  }

  #bar({ range, title, format }, left) {
    if (!range) return []
    const [low, high] = range
    const at = (value) => this.top + (high > low ? 1 - (value - low) / (high - low) : 0.5) * this.up
    const marks = high > low ? ticks(range, this.up / 60) : [low]
    return [
      gradient("colours"),
      s("rect", { x: left, y: this.top, width: BAR.width, height: this.up, rx: 2, fill: "url(#colours)" }),
      ...marks.map((value) => s("text", { x: left + BAR.width + 5, y: at(value) + 4 }, format(value))),
      s(
        "text",
        {
          class: "title",
          transform: `translate(${this.width - 4} ${this.top + this.up / 2}) rotate(-90)`,
          "text-anchor": "middle",
        },
        title,
      ),
    ]
  }
}
