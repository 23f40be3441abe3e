// Correlations as the lower half of their matrix, with a table of the same numbers.

import { h, s, table } from "../lib/dom.js"

const CELL = { least: 40, most: 64, height: 28 }
const LETTER_PX = 6.4 // average width at 12 px
const GAP = 2

/**
 * Draws each pair of names once; rows and columns are labelled at their ends.
 * @param {string[]} names
 * @param {(number | null)[][]} values from -1 to 1, symmetric; null where nothing is known
 * @param {number} room width in pixels; a wider map scrolls
 */
export function heatMap(names, values, room) {
  const margin = Math.ceil(LETTER_PX * Math.max(...names.slice(1).map((name) => name.length))) + 12
  const slope = Math.ceil(LETTER_PX * Math.max(...names.slice(0, -1).map((name) => name.length)) * 0.6) + 8
  const cells = names.length - 1
  const across = Math.min(CELL.most, Math.max(CELL.least, (room - margin - slope) / cells))
  const [width, height] = [margin + cells * across + slope, slope + cells * CELL.height]
  const x = (/** @type {number} */ column) => margin + column * across
  const y = (/** @type {number} */ row) => slope + (row - 1) * CELL.height
  const rows = names.slice(1).map((name, above) => {
    const row = above + 1
    const label = s("text", { x: margin - 8, y: y(row) + CELL.height / 2 + 4, "text-anchor": "end" }, name)
    const boxes = values[row].slice(0, row).map((value, column) => {
      const words = `${name} and ${names[column]}: ${value == null ? "unknown" : value.toFixed(3)}`
      return cell(value, words, x(column), y(row), across)
    })
    return s("g", {}, label, boxes)
  })
  // a column's name begins above its first cell and rises into the empty half
  const heads = names.slice(0, -1).map((name, column) => {
    const transform = `translate(${x(column) + across / 2} ${y(column + 1) - 6}) rotate(-35)`
    return s("text", { transform }, name)
  })
  const label = `Correlations between ${names.join(", ")}. The table below has the numbers.`
  return h(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": "Correlations, scrolls sideways" },
    s("svg", { class: "heat", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, [
      ...rows,
      ...heads,
    ]),
  )
}

/**
 * @param {number | null} value
 * @param {string} words
 * @param {number} left
 * @param {number} top
 * @param {number} across
 */
function cell(value, words, left, top, across) {
  const box = { x: left, y: top, width: across - GAP, height: CELL.height - GAP, rx: 3 }
  const tone = value != null && value < 0 ? "negative" : "positive"
  const middle = { x: left + (across - GAP) / 2, y: top + CELL.height / 2 + 3, "text-anchor": "middle" }
  return s(
    "g",
    { class: `cell ${tone}`, style: { "--strength": Math.abs(value ?? 0) } },
    s("title", {}, words),
    s("rect", box),
    s("text", middle, value == null ? "–" : value.toFixed(2).replace("-", "−")),
  )
}

/**
 * The same numbers for reading: every pair, strongest first, closed until asked for.
 * @param {string[]} names
 * @param {(number | null)[][]} values
 */
export function correlationTable(names, values) {
  const pairs = names.flatMap((first, row) =>
    names.slice(0, row).map((second, column) => ({ first, second, value: values[row][column] })),
  )
  const known = pairs.flatMap(({ value, ...pair }) => (value == null ? [] : [{ ...pair, value }]))
  known.sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
  return h(
    "details",
    {},
    h("summary", {}, `Table of ${known.length} pairs, strongest first`),
    table(
      "Correlations, strongest first",
      [
        ["First", false, (pair) => pair.first],
        ["Second", false, (pair) => pair.second],
        ["Coefficient", true, (pair) => pair.value.toFixed(3).replace("-", "−")],
      ],
      known,
    ),
  )
}
