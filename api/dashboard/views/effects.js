// What explains the results: correlations, main effects, and every network at once on parallel axes.

import { correlationTable, heatMap } from "../charts/heatmap.js"
import { levelAxis, numberAxis, Parallel } from "../charts/parallel.js"
import { ask, askColumns } from "../lib/api.js"
import { count, emptyState, fieldName, h, percent, s, significant } from "../lib/dom.js"
import { here, setParams } from "../lib/route.js"

const TARGETS = ["accuracy", "train_accuracy", "throughput", "fit_seconds", "fitness"]
const MAX_SETTINGS = 14 // axes that still have room for their names

export function showEffects(panel, context) {
  const target = here().params.get("target") ?? "accuracy"
  const parts = {
    effects: section("Main effects"),
    correlations: section("Correlations"),
    parallel: section("Parallel coordinates"),
  }
  const choose = h(
    "select",
    {
      name: "target",
      on: {
        change: (event) => {
          setParams({ target: event.target.value === "accuracy" ? null : event.target.value })
          state.target = event.target.value
          fill(parts.effects, () => effects(context, state.target))
          fill(parts.parallel, () => parallel(context, state.target))
        },
      },
    },
    TARGETS.map((name) => h("option", { value: name, selected: name === target }, fieldName(name))),
  )
  const state = { target }
  panel.append(
    h("div", { class: "row" }, h("label", {}, "explain", choose)),
    ...Object.values(parts).map((part) => part.element),
  )
  const load = () => {
    fill(parts.effects, () => effects(context, state.target))
    fill(parts.correlations, (body) => correlations(context, body))
    fill(parts.parallel, () => parallel(context, state.target))
  }
  context.filters.onChange = load
  load()
}

function section(title) {
  const body = h("div", { class: "panel" })
  return { body, element: h("section", { class: "card", "aria-label": title }, h("h2", {}, title), body) }
}

async function fill(part, make) {
  part.body.replaceChildren(h("p", { class: "loading" }, "Loading …"))
  try {
    const content = await make(part.body)
    if (content) part.body.replaceChildren(...content)
  } catch (error) {
    if (error.name === "AbortError") return
    part.body.replaceChildren(
      emptyState(
        error.code === "no_results" ? "Not enough results yet" : "This analysis is not available",
        error.message,
      ),
    )
  }
}

const analysis = (context, what, more) =>
  ask(`/v1/sweeps/${context.sweep.id}/analysis/${what}?${context.filters.query(more)}`, { signal: context.signal })

const coverage = ({ used, total, device }) =>
  h(
    "p",
    { class: "muted small" },
    `From ${count(used)} of ${count(total)} networks${device.length ? `, measured on ${device.join(", ")}` : ""}. Bars are 95 % intervals of the mean.`,
  )

/** Says whose throughputs count where several device models measured the networks. */
const throughputOf = ({ device, throughput_device }) =>
  device.length > 1 ? `, throughputs of ${throughput_device}` : ""

async function effects(context, target) {
  const found = await analysis(context, "effects", { target })
  const say = target.includes("accuracy") ? (value) => percent(value) : significant
  const ends = found.parameters
    .flatMap((one) => one.levels.flatMap((level) => [level.low ?? level.mean, level.high ?? level.mean]))
    .filter((value) => value != null)
  /** @type {[number, number]} */
  const scale = [Math.min(...ends, found.mean), Math.max(...ends, found.mean)]
  return [
    coverage(found.coverage),
    h(
      "div",
      { class: "effects" },
      found.parameters.map((one) => effectFigure(one, found.mean, scale, say)),
    ),
  ]
}

const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM] = [220, 130, 40, 8, 20]

function effectFigure({ parameter, levels }, mean, [least, most], say) {
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (most > least ? 1 - (value - least) / (most - least) : 0.5)
  const x = (place) => LEFT + ((WIDTH - LEFT) * (place + 0.5)) / levels.length
  const known = levels.map((level, place) => ({ ...level, place })).filter((level) => level.mean != null)
  const words = `${fieldName(parameter)}: ${known.map((level) => `${level.level ?? "no such layer"} ${say(level.mean)}`).join(", ")}`
  return h(
    "figure",
    {},
    h("h3", {}, fieldName(parameter)),
    s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words },
      [most, least].map((value) => s("text", { x: 0, y: y(value) + 4 }, say(value))),
      s("line", { x1: LEFT, x2: WIDTH, y1: y(mean), y2: y(mean), stroke: "var(--line)", "stroke-dasharray": "3 3" }),
      s("polyline", {
        points: known.map((level) => `${x(level.place)},${y(level.mean)}`).join(" "),
        fill: "none",
        stroke: "var(--accent)",
        "stroke-width": 2,
        opacity: 0.45,
      }),
      known.map((level) =>
        s(
          "g",
          {},
          s("title", {}, `${level.level ?? "no such layer"}: ${say(level.mean)}, ${count(level.n)} networks`),
          level.low != null &&
            s("line", {
              x1: x(level.place),
              x2: x(level.place),
              y1: y(level.low),
              y2: y(level.high),
              stroke: "var(--accent)",
              "stroke-width": 3,
              "stroke-linecap": "round",
              opacity: 0.5,
            }),
          s("circle", {
            cx: x(level.place),
            cy: y(level.mean),
            r: 4.5,
            fill: "var(--accent)",
            stroke: "var(--surface)",
            "stroke-width": 1.5,
          }),
        ),
      ),
      levels.map((level, place) =>
        s("text", { x: x(place), y: HEIGHT - 4, "text-anchor": "middle" }, level.level ?? "none"),
      ),
    ),
  )
}

async function correlations(context, body) {
  const { names, coefficients, coverage } = await analysis(context, "correlations")
  const known = [...names.keys()].filter((row) =>
    coefficients[row].some((value, column) => column !== row && value != null),
  )
  if (known.length < 2) return [emptyState("Nothing to correlate", "Fewer than two columns vary in these results.")]
  const labels = known.map((row) => withoutUnit(names[row]))
  const values = known.map((row) => known.map((column) => coefficients[row][column]))
  return [
    h(
      "p",
      { class: "muted small" },
      `Pearson's coefficients over ${count(coverage.used)} networks${throughputOf(coverage)}. Columns that do not vary are omitted.`,
    ),
    heatMap(labels, values, body.clientWidth),
    correlationTable(labels, values),
  ]
}

async function parallel(context, target) {
  const measured = [...new Set(["ratio", ...(context.sweep.protocol.timing ? ["throughput"] : []), "accuracy", target])]
  measured.push(...measured.splice(measured.indexOf(target), 1)) // the last axis gives the colour
  const points = await askColumns(
    `/v1/sweeps/${context.sweep.id}/points?${context.filters.query({ fields: measured.join(",") })}`,
    { signal: context.signal },
  )
  const places = [...points.id.keys()].filter((place) => measured.every((name) => points.columns[name][place] != null))
  if (places.length < 2)
    return [emptyState("Not enough results yet", "Two networks are needed to draw lines between axes.")]
  const axes = await parallelAxes(context.space, points, places, measured)
  return parallelFigure(axes, places.length, target, context.signal)
}

/** Makes the axes one by one, so that the page stays responsive with tens of thousands of networks. */
async function parallelAxes(space, points, places, measured) {
  const pick = (values) => places.map((place) => values[place])
  const axes = []
  for (const name of space.varied_numbers().slice(0, MAX_SETTINGS)) {
    axes.push(levelAxis(shorter(name), pick(space.column(name, points.space_index))))
    await new Promise((resolve) => setTimeout(resolve))
  }
  for (const name of measured) {
    const format = name.includes("accuracy") ? (value) => percent(value, 0) : significant
    axes.push(numberAxis(withoutUnit(name), pick(points.columns[name]), format))
  }
  return axes
}

function parallelFigure(axes, networks, target, signal) {
  const kept = h("span", { "aria-live": "polite" })
  const drawing = new Parallel(
    axes,
    (lines) => {
      kept.textContent = lines === null ? "" : ` ${count(lines)} of them lie within the ranges.`
    },
    signal,
  )
  const names = axes.map((axis) => axis.label).join(", ")
  return [
    h(
      "p",
      { class: "muted small" },
      `${count(networks)} networks, coloured by ${fieldName(target)}; lines are spread around each setting's level. `,
      "Drag along an axis to keep a range, click the axis to remove it; drag an axis's name to move it.",
      kept,
    ),
    h(
      "div",
      { class: "scroll", role: "region", tabindex: "0", "aria-label": `Parallel coordinates of ${names}` },
      drawing.element,
    ),
  ]
}

const withoutUnit = (name) => fieldName(name).replace(/ \((images\/s|s)\)$/, "")

const shorter = (name) =>
  name.replace("kernel_size", "kernel").replace(/\[(\d+)\]/, (_, layer) => ` ${Number(layer) + 1}`)
