// What explains the results: correlations, main effects, and every network at once on parallel axes.

import { ask, askColumns } from "../lib/api.js"
import { count, emptyState, fieldName, h, percent, s, significant } from "../lib/dom.js"
import { color, colorscale, diverging, draw, hasWebgl, layout } from "../charts/plot.js"
import { here, setParams } from "../lib/route.js"

const TARGETS = ["accuracy", "train_accuracy", "throughput", "fit_seconds", "fitness"]
const MANY_AXES = 14

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
          fill(parts.parallel, (body) => parallel(context, state.target, body))
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
    fill(parts.parallel, (body) => parallel(context, state.target, body))
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
      emptyState(error.code === "no_results" ? "Not enough results yet" : "This cannot be said", error.message),
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

async function effects(context, target) {
  const found = await analysis(context, "effects", { target })
  const say = target.includes("accuracy") ? (value) => percent(value) : significant
  const ends = found.parameters
    .flatMap((one) => one.levels.flatMap((level) => [level.low ?? level.mean, level.high ?? level.mean]))
    .filter((value) => value != null)
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
  const found = await analysis(context, "correlations")
  const kept = found.names
    .map((_, place) => place)
    .filter((place) => found.coefficients[place].some((value, other) => other !== place && value != null))
  const names = kept.map((place) => fieldName(found.names[place]).replace(" (images/s)", "").replace(" (s)", ""))
  const z = kept.map((row) => kept.map((column) => found.coefficients[row][column]))
  const chart = h("div", { class: "chart tall", role: "img", "aria-label": `Correlations between ${names.join(", ")}` })
  body.replaceChildren(
    h(
      "p",
      { class: "muted small" },
      `Pearson's coefficients over ${count(found.coverage.used)} networks; what does not vary is left out.`,
    ),
    chart,
  )
  const text = z.map((row) => row.map((value) => (value == null ? "" : value.toFixed(2))))
  await draw(
    chart,
    () => ({
      data: [
        {
          type: "heatmap",
          z,
          x: names,
          y: names,
          zmin: -1,
          zmax: 1,
          colorscale: diverging(),
          xgap: 2,
          ygap: 2,
          text,
          texttemplate: names.length <= 16 && innerWidth > 640 ? "%{text}" : undefined,
          hovertemplate: "%{y} · %{x}: %{z:.3f}<extra></extra>",
          colorbar: { thickness: 10, outlinewidth: 0 },
        },
      ],
      layout: layout({ xaxis: { tickangle: -40, showgrid: false }, yaxis: { autorange: "reversed", showgrid: false } }),
    }),
    context.signal,
  )
  return null
}

async function parallel(context, target, body) {
  if (!hasWebgl())
    return [
      emptyState(
        "This browser cannot draw them",
        "Parallel coordinates need WebGL. The API draws the same picture: open plots/parallel.svg of this sweep.",
      ),
    ]
  const measured = [...new Set([...(context.sweep.protocol.timing ? ["throughput"] : []), "accuracy", target])]
  const points = await askColumns(
    `/v1/sweeps/${context.sweep.id}/points?${context.filters.query({ fields: [...measured, "ratio"].join(",") })}`,
    { signal: context.signal },
  )
  if (points.id.length < 2)
    return [emptyState("Not enough results yet", "Two networks are needed to draw lines between axes.")]
  const settings = context.space.varied_numbers().slice(0, MANY_AXES)
  const rows = [...points.id.keys()].filter((place) => measured.every((name) => points.columns[name][place] != null))
  const pick = (values) => rows.map((place) => values[place])
  const dimensions = [
    ...settings.map((name) => {
      const values = pick(context.space.column(name, points.space_index))
      return { label: shorter(name), values, tickvals: [...new Set(values)].sort((a, b) => a - b).slice(0, 12) }
    }),
    ...["ratio", ...measured].map((name) => ({
      label: fieldName(name).replace(" (images/s)", ""),
      values: pick(points.columns[name]),
      tickformat: name.includes("accuracy") ? ".0%" : undefined,
    })),
  ]
  const chart = h("div", { class: "chart", style: { "min-width": `${70 * dimensions.length}px` } })
  body.replaceChildren(
    h(
      "p",
      { class: "muted small" },
      `${count(rows.length)} networks, coloured by ${fieldName(target)}. Drag along an axis to keep a range; drag its name to move it.`,
    ),
    h(
      "div",
      {
        class: "scroll",
        role: "region",
        tabindex: "0",
        "aria-label": `Parallel coordinates of ${dimensions.map((one) => one.label).join(", ")}`,
      },
      chart,
    ),
  )
  await draw(
    chart,
    () => ({
      data: [
        {
          type: "parcoords",
          dimensions,
          line: { color: pick(points.columns[target]), colorscale: colorscale() },
          unselected: { line: { color: color("line"), opacity: 0.3 } },
          labelfont: { color: color("ink"), size: 12 },
          tickfont: { color: color("muted"), size: 11 },
          rangefont: { color: "rgba(0,0,0,0)" },
        },
      ],
      layout: layout({ margin: { l: 50, r: 50, t: 50, b: 20 } }),
    }),
    context.signal,
  )
  return null
}

const shorter = (name) =>
  name.replace("kernel_size", "kernel").replace(/\[(\d+)\]/, (_, layer) => ` ${Number(layer) + 1}`)
