// Questions that stand before everything else: the key, confirmations, numbers.

import { h } from "./dom.js"

function open(title, content, { confirm, danger = false, dismissible = true }) {
  return new Promise((resolve) => {
    const close = (value) => {
      dialog.close()
      dialog.remove()
      resolve(value)
    }
    const form = h(
      "form",
      {
        method: "dialog",
        on: {
          submit: (event) => {
            event.preventDefault()
            close(Object.fromEntries(new FormData(form)))
          },
        },
      },
      h("h2", { id: "dialog-title" }, title),
      ...content,
      h(
        "div",
        { class: "row" },
        dismissible && h("button", { type: "button", on: { click: () => close(null) } }, "Not now"),
        h("button", { type: "submit", class: danger ? "primary danger-fill" : "primary" }, confirm),
      ),
    )
    const dialog = h(
      "dialog",
      {
        "aria-labelledby": "dialog-title",
        on: {
          cancel: (event) => {
            event.preventDefault()
            if (dismissible) close(null)
          },
        },
      },
      form,
    )
    document.body.append(dialog)
    dialog.showModal()
  })
}

/** Asks whether something that stops or begins work shall happen. */
export async function confirmed(title, text, confirm, danger = false) {
  return (await open(title, [h("p", { class: "muted" }, text)], { confirm, danger })) !== null
}

/** Asks for the API key until one is given. */
export async function askKey(complaint) {
  const answer = await open(
    "This API wants a key",
    [
      h(
        "p",
        { class: "muted" },
        "It is kept in this tab until you close it. The administrator of the service creates one with: convsweep key create NAME --scope write",
      ),
      complaint && h("p", { class: "notice", role: "alert" }, complaint),
      h(
        "label",
        { class: "stack" },
        "API key",
        h("input", {
          name: "key",
          type: "password",
          required: true,
          autocomplete: "off",
          placeholder: "csw_…",
          pattern: "\\S+",
        }),
      ),
    ].filter(Boolean),
    { confirm: "Use this key", dismissible: false },
  )
  return answer.key
}

/** Asks for more trials; returns what to extend by, or null. */
export async function askExtension(trials) {
  const answer = await open(
    "Measure more trials",
    [
      h(
        "p",
        { class: "muted" },
        "Results stay and keep their rank; the missing trials are measured. A sweep that is over runs again.",
      ),
      h(
        "label",
        { class: "stack" },
        "Trials per network, in all",
        h("input", { name: "trials", type: "number", min: trials + 1, max: 1000, required: true, value: trials + 3 }),
      ),
      h(
        "label",
        { class: "stack" },
        "Only the most accurate (empty: all)",
        h("input", { name: "top", type: "number", min: 1, placeholder: "e.g. 50" }),
      ),
    ],
    { confirm: "Extend" },
  )
  return answer && { trials: Number(answer.trials), top: answer.top ? Number(answer.top) : null }
}
