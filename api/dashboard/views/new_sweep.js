// A new sweep: a preset or edited JSON, what it would hold, and how long it might take here.

import { ask } from "../lib/api.js"
import { count, duration, figures, flop, h } from "../lib/dom.js"
import { link } from "../lib/route.js"

const WAIT_MS = 350
const REMEMBERED = 5 // sweeps whose pace is asked for
const ALIKE = 10 // networks whose FLOPs differ by more than this factor have another pace

export async function show(view, { params, signal }) {
  const [presets, paces] = await Promise.all([ask("/v1/presets", { signal }), pacesHere(signal)])
  const names = Object.keys(presets)
  const chosen = names.includes(params.get("preset")) ? params.get("preset") : "quick"
  const name = h("input", {
    type: "text",
    name: "name",
    maxlength: 100,
    placeholder: "optional, for the list of sweeps",
  })
  const editor = h("textarea", {
    name: "body",
    spellcheck: "false",
    "aria-label": "Space and protocol as JSON",
    "aria-describedby": "editor-problem",
  })
  const problem = h("p", { class: "notice", id: "editor-problem", role: "alert", hidden: true })
  const preview = h("div", { class: "panel", "aria-live": "polite" })
  const start = h("button", { type: "submit", class: "primary" }, "Start this sweep")
  const pick = (preset) => {
    editor.value = pretty(presets[preset].sweep)
    later()
  }
  const later = debounced(() => showPreview({ editor, problem, preview, start, paces, signal }))
  editor.addEventListener("input", later)
  const form = h(
    "form",
    {
      class: "columns",
      on: {
        submit: (event) => {
          event.preventDefault()
          create({ name, editor, problem, start })
        },
      },
    },
    h(
      "div",
      { class: "card" },
      h(
        "fieldset",
        { class: "presets" },
        h("legend", { class: "unseen" }, "Start from"),
        names.map((preset) =>
          h(
            "label",
            {},
            h("input", {
              type: "radio",
              name: "preset",
              value: preset,
              checked: preset === chosen,
              on: { change: () => pick(preset) },
            }),
            h("span", {}, preset, h("small", {}, presets[preset].about)),
          ),
        ),
      ),
      h("label", { class: "stack" }, "Name", name),
      editor,
      problem,
    ),
    h("div", { class: "card" }, h("h2", {}, "What it would hold"), preview, h("div", { class: "row" }, start)),
  )
  view.append(
    h(
      "div",
      { class: "title" },
      h("p", { class: "crumbs" }, h("a", { href: "#/sweeps" }, "Sweeps"), " / new"),
      h("h1", {}, "New sweep"),
    ),
    form,
  )
  pick(chosen)
  return "New sweep"
}

/** JSON with lists of plain values on one line. */
const pretty = (value) =>
  JSON.stringify(value, null, 2).replace(/\[[^[\]{}]*\]/g, (list) =>
    list.replace(/\s+/g, " ").replace("[ ", "[").replace(" ]", "]"),
  )

function debounced(does) {
  let timer
  return () => {
    clearTimeout(timer)
    timer = setTimeout(does, WAIT_MS)
  }
}

function read(editor) {
  try {
    return JSON.parse(editor.value)
  } catch (error) {
    throw new Error(`This is no JSON yet: ${error.message}`)
  }
}

let turn = null

async function showPreview({ editor, problem, preview, start, paces, signal }) {
  const mine = Symbol()
  turn = mine
  try {
    const body = read(editor)
    const totals = await ask("/v1/sweeps/preview", { method: "POST", body, signal })
    if (mine !== turn) return
    problem.hidden = true
    start.disabled = false
    preview.replaceChildren(...described(totals, body.protocol?.trials ?? 1, paces))
  } catch (error) {
    if (error.name === "AbortError" || mine !== turn) return
    problem.hidden = false
    problem.textContent = error.message
    start.disabled = true
  }
}

function described(totals, trials, paces) {
  const lost = Object.entries(totals.invalid).filter(([, many]) => many)
  const each = totals.flops_per_trial / Math.max(totals.valid, 1)
  const pace = paces.find(({ flopsEach }) => each < ALIKE * flopsEach && flopsEach < ALIKE * each)
  const seconds = pace && (totals.flops_per_trial * trials) / pace.flopsPerS
  return [
    figures([
      ["architectures", count(totals.total)],
      ["fit their input", count(totals.valid)],
      ["groups", count(totals.groups)],
      ["arithmetic", flop(totals.flops_per_trial * trials)],
      ["estimated time", pace ? `about ${duration(seconds)}` : "unknown"],
    ]),
    h(
      "p",
      { class: "muted small" },
      pace
        ? `At the pace of sweep ${pace.id}: ${flop(pace.flopsPerS)}/s, everything counted. Small networks take longer than their FLOPs say.`
        : `No sweep of networks of such a size (${flop(each)} a trial) has finished here lately, so nothing is known of this cluster's pace with them.`,
    ),
    lost.length
      ? h(
          "p",
          { class: "small" },
          `Not measured: ${lost.map(([reason, many]) => `${count(many)} ${reason.replaceAll("_", " ")}`).join(", ")}.`,
        )
      : null,
    ...totals.warnings.map((warning) => h("p", { class: "notice" }, warning)),
    totals.equivalent
      ? h(
          "p",
          { class: "small" },
          `${count(totals.equivalent)} of those that fit compute the same as another one: a dilation has no effect on a kernel of size 1.`,
        )
      : null,
  ].filter(Boolean)
}

/** FLOPs a second, overhead and all, and FLOPs of a network of the latest sweeps that completed here. */
async function pacesHere(signal) {
  const { sweeps } = await ask("/v1/sweeps?page_size=20", { signal })
  const ended = sweeps.filter((sweep) => sweep.status === "completed" && sweep.completed_at && sweep.counts.completed)
  return Promise.all(
    ended.slice(0, REMEMBERED).map(async ({ id, space, protocol, created_at, completed_at }) => {
      const { flops_per_trial, valid } = await ask("/v1/sweeps/preview", {
        method: "POST",
        body: { space, protocol },
        signal,
      })
      const seconds = (Date.parse(completed_at) - Date.parse(created_at)) / 1000
      return {
        id,
        flopsPerS: (flops_per_trial * protocol.trials) / Math.max(seconds, 1),
        flopsEach: flops_per_trial / Math.max(valid, 1),
      }
    }),
  )
}

async function create({ name, editor, problem, start }) {
  start.disabled = true
  try {
    const body = read(editor)
    if (name.value.trim()) body.name = name.value.trim()
    const sweep = await ask("/v1/sweeps", {
      method: "POST",
      body,
      headers: { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) },
    })
    location.hash = link(["sweeps", sweep.id]).slice(1)
  } catch (error) {
    problem.hidden = false
    problem.textContent = error.message
    start.disabled = false
  }
}
