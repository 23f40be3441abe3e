// Plotly, loaded when first needed, in the page's own colours.

let loading = null

/** @returns {Promise<any>} Plotly */
export function plotly() {
  loading ??= load()
    .catch(load)
    .catch((error) => {
      loading = null
      throw error
    }) // networks come and go
  return loading
}

function load() {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script")
    script.src = "/dashboard/plotly.min.js"
    script.onload = () => resolve(window.Plotly)
    script.onerror = () => reject(new Error("plotly.min.js did not load; reload the page."))
    document.head.append(script)
  })
}

/** Says whether this browser draws by WebGL, which tens of thousands of lines need. */
export function hasWebgl() {
  return document.createElement("canvas").getContext("webgl") !== null
}

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()

const SCALES = {
  light: [
    [0, "#2a1a6e"],
    [0.25, "#3056d3"],
    [0.5, "#1792a8"],
    [0.75, "#5bb15a"],
    [1, "#d9a520"],
  ],
  dark: [
    [0, "#5a5fd8"],
    [0.25, "#5c9bff"],
    [0.5, "#3fc7c9"],
    [0.75, "#9bdc74"],
    [1, "#ffe07a"],
  ],
}
export const colorscale = () => SCALES[document.documentElement.dataset.theme === "dark" ? "dark" : "light"]
export const diverging = () => [
  [0, color("failed")],
  [0.5, color("surface")],
  [1, color("accent")],
]

/** What every figure shares: fonts, grid, margins. */
export function layout(own = {}) {
  const axis = {
    gridcolor: color("line"),
    zeroline: false,
    linecolor: color("line"),
    tickcolor: color("line"),
    automargin: true,
    title: { standoff: 10 },
  }
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("muted") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 16, t: 12, b: 48 },
    showlegend: false,
    ...own,
    xaxis: { ...axis, ...own.xaxis },
    yaxis: { ...axis, ...own.yaxis },
  }
}

export const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false }

/** Draws into an element, and again when the theme changes, until `signal` ends it. */
export async function draw(element, make, signal, config = CONFIG) {
  const Plotly = await plotly()
  if (signal.aborted) return
  const again = () => {
    const { data, layout } = make()
    return Plotly.react(element, data, layout, config)
  }
  await again()
  document.addEventListener("themechange", again, { signal })
  signal.addEventListener("abort", () => Plotly.purge(element), { once: true })
}
