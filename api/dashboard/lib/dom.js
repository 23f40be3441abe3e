// Elements, words and numbers. Text from users only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg"

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Makes an element. `on` has listeners, `style` custom properties or styles, the rest attributes.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [props]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, props = {}, ...children) {
  return build(document.createElement(tag), props, children)
}

/**
 * Makes an SVG element, as `h` does.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [props]
 * @param {...(Child | Child[])} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function s(tag, props = {}, ...children) {
  return build(document.createElementNS(SVG, tag), props, children)
}

/**
 * @template {HTMLElement | SVGElement} Made
 * @param {Made} element
 * @param {Record<string, any>} props
 * @param {(Child | Child[])[]} children
 */
function build(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") for (const [event, does] of Object.entries(value)) element.addEventListener(event, does)
    else if (name === "style") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, String(to))
    else if (name.startsWith("aria-") && typeof value === "boolean") element.setAttribute(name, String(value))
    else if (value === true) element.setAttribute(name, "")
    else if (value !== false && value != null) element.setAttribute(name, String(value))
  }
  element.append(
    ...children
      .flat()
      .filter((child) => child != null && child !== false)
      .map((child) => (child instanceof Node ? child : String(child))),
  )
  return element
}

/** Announces a change to screen readers. */
export function announce(text) {
  document.getElementById("announcer").textContent = text
}

const numbers = (digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits })
const whole = numbers(0)
const fourDigits = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 })
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 })

/** @param {number | null | undefined} value */
export const count = (value) => (value == null ? "–" : whole.format(value))
export const short = (value) => (value == null ? "–" : compact.format(value))
export const percent = (value, digits = 1) => (value == null ? "–" : `${(100 * value).toFixed(digits)} %`)
export const decimal = (value, digits = 3) => (value == null ? "–" : value.toFixed(digits))
export const significant = (value) => (value == null ? "–" : fourDigits.format(value))

/** Says a number of operations with its prefix: 3.6e15 is "3.6 PFLOP". */
export function flop(value) {
  const units = ["", "k", "M", "G", "T", "P", "E"]
  let place = 0
  while (value >= 1000 && place < units.length - 1) {
    value /= 1000
    place++
  }
  return `${Number(value.toPrecision(3))} ${units[place]}FLOP`
}

/** Says a length of time in its two largest units. */
export function duration(seconds) {
  if (seconds == null) return "–"
  if (seconds < 1) return "under 1 s"
  /** @type {[number, string][]} */
  const parts = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ]
  const found = []
  for (const [size, unit] of parts) {
    const many = Math.floor(seconds / size)
    if (many || found.length) found.push(many ? `${many} ${unit}` : "")
    seconds -= many * size
    if (found.length === 2) break
  }
  return found.filter(Boolean).join(" ")
}

/** Says how long a sweep still takes: a range, for nobody knows it exactly. */
export function timeLeft({ eta_low_s: low, eta_high_s: high }) {
  const [least, most] = [duration(low), duration(high)]
  return least === most ? most : `${least} to ${most}`
}

export const ago = (time) => `${duration(Math.max(0, (Date.now() - Date.parse(time)) / 1000))} ago`
export const moment = (time) =>
  time ? new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "–"

/** The name of a field as people say it. */
export function fieldName(field) {
  const layered = /^([a-z_]+)\[(\d+)\]$/.exec(field)
  if (layered) return `${layered[1].replace("_", " ")}, layer ${Number(layered[2]) + 1}`
  return (
    {
      accuracy: "accuracy",
      accuracy_sd: "accuracy SD",
      train_accuracy: "training accuracy",
      throughput: "throughput (images/s)",
      fit_seconds: "fit time (s)",
      flops: "FLOPs",
      ratio: "ratio",
    }[field] ?? field
  )
}

/** An architecture as a row of layers. */
export function network(layers) {
  return h(
    "span",
    { class: "net" },
    layers.map((layer) => h("span", { class: "layer", title: describe(layer) }, layerText(layer))),
  )
}

export function layerText(layer) {
  const parts = [`${layer.channels}×${layer.kernel_size}²`]
  if (layer.stride !== 1) parts.push(`s${layer.stride}`)
  if (layer.dilation !== 1) parts.push(`d${layer.dilation}`)
  if (layer.padding) parts.push(`p${layer.padding}`)
  if (layer.activation !== "relu") parts.push(layer.activation)
  return parts.join(" ")
}

const describe = (layer) =>
  `${layer.channels} channels, kernel ${layer.kernel_size}, stride ${layer.stride}, dilation ${layer.dilation}, padding ${layer.padding}, ${layer.activation}`

export const pill = (status, live = false) => h("span", { class: `pill is-${status}${live ? " is-live" : ""}` }, status)

/** Figures with their names below: [name, value or node, small addition]. */
export function figures(entries) {
  return h(
    "dl",
    { class: "figures" },
    entries.map(([name, value, small]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value, small && h("small", {}, ` ${small}`))),
    ),
  )
}

export const STATES = ["completed", "rejected", "invalid", "failed", "cancelled", "running", "pending"]

/** A stacked bar of jobs by state; its words are in `stateKeys`. */
export function stateBar(counts, thin = false) {
  const said = STATES.filter((state) => counts[state])
    .map((state) => `${count(counts[state])} ${state}`)
    .join(", ")
  return h(
    "div",
    { class: thin ? "bar thin" : "bar", role: "img", "aria-label": `Jobs by state: ${said || "none"}` },
    STATES.filter((state) => counts[state]).map((state) =>
      h("i", { class: `is-${state}`, style: { flex: `${counts[state]} 0 0` } }),
    ),
  )
}

export function stateKeys(counts) {
  return h(
    "ul",
    { class: "keys" },
    STATES.filter((state) => counts[state]).map((state) =>
      h("li", { class: `key is-${state}` }, h("b", {}, count(counts[state])), ` ${state}`),
    ),
  )
}

/**
 * A table; a wide one scrolls.
 * @template Row
 * @param {string} caption
 * @param {[string, boolean, (row: Row) => Child][]} columns title, whether it holds numbers, cell of a row
 * @param {Row[]} rows
 * @param {(row: Row) => Record<string, any>} attributes of a row's element
 */
export function table(caption, columns, rows, attributes = () => ({})) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(([title, isNumber]) => h("th", { scope: "col", class: isNumber && "number" }, title)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            attributes(row),
            columns.map(([, isNumber, cell]) => h("td", { class: isNumber && "number" }, cell(row))),
          ),
        ),
      ),
    ),
  )
}

/** What stands where there is nothing yet: what that means and what to do next. */
export function emptyState(title, text, ...actions) {
  return h(
    "div",
    { class: "state" },
    h("h2", {}, title),
    h("p", {}, text),
    actions.length ? h("div", { class: "row" }, ...actions) : null,
  )
}

/** Copies text, and says so on the button for a moment. */
export function copyButton(label, text) {
  const button = h("button", { type: "button", on: { click: copy } }, label)
  async function copy() {
    try {
      await navigator.clipboard.writeText(text())
    } catch {
      window.prompt("Copy this:", text())
      return
    }
    button.textContent = "Copied"
    announce("Copied")
    setTimeout(() => {
      button.textContent = label
    }, 1500)
  }
  return button
}
