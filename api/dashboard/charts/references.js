// How fast each unit of a device model was, over time: a line per unit, drift as rings.

import { h, moment, s } from "../lib/dom.js"
import { extent, ticks } from "./axes.js"

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [200, 48, 12, 10, 22]
const COLOURS = 6 // of curves in the style sheet

/** Says how much faster or slower than the fleet a speed is. */
function signed(speed) {
  const size = (100 * Math.abs(speed - 1)).toFixed(1)
  return size === "0.0" ? "0 %" : `${speed > 1 ? "+" : "−"}${size} %`
}

/** Draws the runs of units; speeds are relative to the fleet, `maxDrift` is the change that counts. */
export function referencesFigure(device, units, maxDrift, width) {
  const runs = units.flatMap((unit) => unit.history)
  const times = extent(runs.map((run) => Date.parse(run.finished_at)))
  const [least, most] = extent(runs.map((run) => run.speed))
  const speeds = [Math.min(least, 1 - 1.5 * maxDrift), Math.max(most, 1 + 1.5 * maxDrift)]
  const span = Math.max(times[1] - times[0], 1)
  const x = (run) => LEFT + ((width - LEFT - RIGHT) * (Date.parse(run.finished_at) - times[0])) / span
  const y = (speed) => TOP + ((HEIGHT - TOP - BOTTOM) * (speeds[1] - speed)) / (speeds[1] - speeds[0])
  return h(
    "figure",
    { class: "curves" },
    s(
      "svg",
      { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": words(device, units) },
      s("rect", {
        class: "steady",
        x: LEFT,
        width: width - LEFT - RIGHT,
        y: y(1 + maxDrift),
        height: y(1 - maxDrift) - y(1 + maxDrift),
      }),
      ticks(/** @type {[number, number]} */ (speeds), 4).flatMap((speed) => [
        s("line", { x1: LEFT, x2: width - RIGHT, y1: y(speed), y2: y(speed), stroke: "var(--line)" }),
        s("text", { x: LEFT - 6, y: y(speed) + 4, "text-anchor": "end" }, signed(speed)),
      ]),
      units.map((unit, place) =>
        s(
          "g",
          { class: `curve-${place % COLOURS}` },
          s("polyline", {
            class: "curve",
            points: unit.history.map((run) => `${x(run)},${y(run.speed)}`).join(" "),
          }),
          unit.history.map((run) =>
            s(
              "circle",
              { class: run.drifted ? "curve-dot drifted" : "curve-dot", cx: x(run), cy: y(run.speed), r: 3.5 },
              s("title", {}, describeRun(unit, run)),
            ),
          ),
        ),
      ),
      s("text", { x: LEFT, y: HEIGHT - 6 }, moment(runs[0] && new Date(times[0]))),
      s("text", { x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, moment(new Date(times[1]))),
    ),
    h(
      "ul",
      { class: "keys" },
      h("li", { class: "muted" }, `speed against the fleet; band: ± ${100 * maxDrift} %`),
      units.map((unit, place) => h("li", { class: `key curve-${place % COLOURS}` }, unit.unit)),
    ),
  )
}

function words(device, units) {
  const said = units.map((unit) => `${unit.unit} ${signed(unit.factor)} after ${unit.runs} runs, ${unit.drifts} drifts`)
  return `References of ${device} over time: ${said.join("; ")}`
}

function describeRun(unit, run) {
  const parts = [`${unit.unit}: ${signed(run.speed)}`, moment(run.finished_at)]
  if (run.speed_change != null) parts.push(`${signed(1 + run.speed_change)} since the run before`)
  if (run.clock_mhz != null) parts.push(`${Math.round(run.clock_mhz)} MHz`)
  if (run.temperature_c != null) parts.push(`${Math.round(run.temperature_c)} °C`)
  return parts.join(", ")
}
