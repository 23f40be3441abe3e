// How the devices of a sweep compare: references over time, units, and what models say of each other.

import { referencesFigure } from "../charts/references.js"
import { ask } from "../lib/api.js"
import { confirmed } from "../lib/dialog.js"
import { announce, count, decimal, emptyState, h, moment, table } from "../lib/dom.js"
import { link } from "../lib/route.js"

const SHARE = 0.03

export async function showDevices(panel, { sweep, signal }) {
  const page = new Devices(sweep, signal)
  panel.append(page.element)
  await page.load()
}

class Devices {
  constructor(sweep, signal) {
    this.sweep = sweep
    this.signal = signal
    this.message = h("div", { role: "status" })
    this.body = h("div", { class: "panel" })
    this.element = h("div", { class: "panel" }, this.message, this.body)
  }

  async load() {
    const found = await ask(`/v1/sweeps/${this.sweep.id}/analysis/devices`, { signal: this.signal })
    if (!found.models.length) {
      this.body.replaceChildren(
        emptyState(
          "Nothing is timed yet",
          this.sweep.protocol.timing
            ? "Devices are compared once they have timed networks of this sweep."
            : "The protocol of this sweep has no timing.",
        ),
      )
      return
    }
    this.body.replaceChildren(
      h(
        "div",
        { class: "row" },
        h(
          "p",
          { class: "muted grow" },
          `Reference networks, version ${found.reference_version}, are timed between other work. `,
          `A speed that changes by more than ${100 * found.max_drift} % is drift: timings in between are made again.`,
        ),
        h("button", { type: "button", on: { click: () => this.#bridge() } }, "Time a bridge …"),
      ),
      ...found.models.map((model) => this.#model(model, found)),
    )
  }

  #model(model, { max_drift: maxDrift }) {
    const width = Math.max(240, this.element.clientWidth - 48)
    return h(
      "section",
      { class: "card", "aria-label": model.device },
      h("h2", {}, model.device, h("small", { class: "muted" }, ` ${count(model.timed)} networks timed`)),
      ...(model.units.length
        ? [referencesFigure(model.device, model.units, maxDrift, width), unitTable(model)]
        : [h("p", { class: "muted" }, "It has not timed the references since this sweep began.")]),
      model.fits.length ? fitTable(model) : null,
      this.#calibration(model),
    )
  }

  #calibration({ device, calibration }) {
    const button = h(
      "button",
      { type: "button", on: { click: () => this.#calibrate(device) } },
      calibration ? "Calibrate again" : "Calibrate",
    )
    if (!calibration)
      return h(
        "div",
        { class: "row" },
        button,
        h("span", { class: "muted" }, "corrects its timings for its units, and predicts the other networks"),
      )
    const later = calibration.timed_since ? `; ${count(calibration.timed_since)} networks were timed since` : ""
    return h(
      "div",
      { class: "row" },
      button,
      h(
        "span",
        {},
        `${count(calibration.measured)} networks measured, ${count(calibration.predicted)} predicted, `,
        `${moment(calibration.calibrated_at)}${later}: `,
        h("a", { href: link(["sweeps", this.sweep.id], { where: `device=${calibration.scale}` }) }, "show them"),
      ),
    )
  }

  async #bridge() {
    const wanted = await confirmed(
      "Time a bridge?",
      `${100 * SHARE} % of the networks, chosen at random, are timed on the models of all running workers. They keep their results meanwhile.`,
      "Time them",
    )
    if (!wanted) return
    await this.#post("bridges", { share: SHARE }, (bridge) =>
      bridge.wanted
        ? `${count(bridge.wanted)} timings on ${bridge.devices.join(" and ")} were asked for.`
        : `${bridge.devices.join(" and ")} timed all ${count(bridge.networks)} networks before, or will.`,
    )
  }

  #calibrate(device) {
    return this.#post(
      "calibrations",
      { device },
      (found) => `${count(found.measured)} networks measured, ${count(found.predicted)} predicted on ${device}.`,
    )
  }

  async #post(what, body, say) {
    try {
      const answer = await ask(`/v1/sweeps/${this.sweep.id}/${what}`, { method: "POST", body })
      await this.load()
      this.#tell(say(answer))
    } catch (error) {
      if (error.name !== "AbortError") this.#tell(error.message)
    }
  }

  #tell(text) {
    this.message.replaceChildren(h("p", { class: "notice" }, text))
    announce(text)
  }
}

function unitTable(model) {
  return table(
    `Units of ${model.device}`,
    [
      ["Unit", false, (unit) => unit.unit],
      ["Speed, fleet = 1", true, (unit) => decimal(unit.factor)],
      ["Runs", true, (unit) => count(unit.runs)],
      ["Last change", true, (unit) => change(unit.history.at(-1).speed_change)],
      ["Drifts", true, (unit) => count(unit.drifts)],
      ["Timings discarded", true, (unit) => count(unit.invalidated)],
    ],
    model.units,
  )
}

function fitTable(model) {
  return table(
    `What other models say about ${model.device}`,
    [
      ["Predicted from", false, (fit) => fit.source],
      ["Networks on both", true, (fit) => count(fit.rows)],
      ["Rank correlation", true, (fit) => decimal(fit.rank_correlation)],
      ["90 % interval", true, (fit) => (fit.interval_factor == null ? "–" : `÷ or × ${decimal(fit.interval_factor)}`)],
      ["Lacks", false, (fit) => fit.problem ?? "–"],
    ],
    model.fits,
  )
}

const change = (value) => (value == null ? "–" : `${value > 0 ? "+" : ""}${(100 * value).toFixed(1)} %`)
