// Filters of one sweep's results, in the API's own grammar; docs/filters.md has it.

import { h } from "./dom.js"
import { setParams } from "./route.js"

const NAMES = [
  "accuracy=",
  "throughput=",
  "ratio=",
  "parameters=",
  "flops=",
  "fit_seconds=",
  "trials_done=",
  "fitness=",
  "status=",
  "reason=",
  "device=",
  "kernel_size[0]=",
  "stride[0]=",
  "dilation[0]=",
  "channels[0]=",
  "activation[0]=",
]

/** The filters in the URL (`where`), and the bar that changes them. */
export class Filters {
  constructor(params) {
    this.texts = params.getAll("where")
    this.onChange = () => {}
    this.problem = h("p", { class: "notice", role: "alert", hidden: true })
    this.chips = h("div", { class: "chips" })
    const input = h("input", {
      type: "text",
      name: "filter",
      list: "filter-names",
      placeholder: "accuracy=0.3.. or kernel_size[0]=5|7",
      "aria-label": "Add a filter",
      size: 34,
      autocomplete: "off",
      spellcheck: "false",
    })
    this.element = h(
      "section",
      { class: "panel", "aria-label": "Filters", style: { gap: "10px" } },
      h(
        "form",
        {
          class: "row",
          on: {
            submit: (event) => {
              event.preventDefault()
              if (this.#add(input.value)) input.value = ""
            },
          },
        },
        h(
          "datalist",
          { id: "filter-names" },
          NAMES.map((name) => h("option", { value: name })),
        ),
        input,
        h("button", { type: "submit" }, "Filter"),
        this.chips,
      ),
      this.problem,
    )
    this.#show()
  }

  /** The filters as parameters of a request. */
  query(more = {}) {
    const query = new URLSearchParams()
    for (const text of this.texts) {
      const equals = text.indexOf("=")
      query.append(text.slice(0, equals), text.slice(equals + 1))
    }
    for (const [name, value] of Object.entries(more)) if (value != null) query.append(name, value)
    return query.toString()
  }

  get device() {
    return this.texts.find((text) => text.startsWith("device="))?.slice(7) ?? ""
  }

  set device(name) {
    this.texts = this.texts.filter((text) => !text.startsWith("device="))
    if (name) this.texts.push(`device=${name}`)
    this.#changed()
  }

  /** Says what the API has against a filter; the view keeps what it shows. */
  complain(message) {
    this.problem.hidden = !message
    this.problem.textContent = message ?? ""
  }

  #add(text) {
    text = text.trim()
    if (!/^[^=]+=.+/.test(text)) {
      this.complain("Write NAME=VALUES, e.g. accuracy=0.3.. for 30 % or more, or kernel_size[0]=5|7 for either.")
      return false
    }
    if (!this.texts.includes(text)) this.texts.push(text)
    this.#changed()
    return true
  }

  #changed() {
    this.complain(null)
    setParams({ where: this.texts, page_token: null })
    this.#show()
    this.onChange()
  }

  #show() {
    this.chips.replaceChildren(
      ...this.texts.map((text) =>
        h(
          "span",
          { class: "chip" },
          text,
          h(
            "button",
            {
              type: "button",
              "aria-label": `Remove filter ${text}`,
              on: {
                click: () => {
                  this.texts = this.texts.filter((other) => other !== text)
                  this.#changed()
                },
              },
            },
            "×",
          ),
        ),
      ),
    )
  }
}
