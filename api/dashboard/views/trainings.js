// What gradient descent makes of the networks: a table with the probe beside it, and learning curves.

import { ask, download } from "../lib/api.js"
import { announce, count, emptyState, h, network, percent, pill, s, significant, table } from "../lib/dom.js"
import { here, setParams } from "../lib/route.js"

const EVERY_MS = 3000 // while trainings go on
const IDLE_EVERY_MS = 10000
const CURVES = 6
const OPEN = ["pending", "running", "paused"]

export async function showTrainings(panel, { sweep, signal }) {
  const page = new Trainings(sweep, signal)
  panel.append(page.element)
  await page.load()
  page.poll()
}

class Trainings {
  constructor(sweep, signal) {
    this.sweep = sweep
    this.signal = signal
    this.trainings = []
    this.curves = new Map()
    const shown = here().params.get("trainings")
    this.shown = shown ? shown.split(",").map(Number) : null // none are chosen: the best
    this.rows = h("section", { class: "card flush", "aria-label": "Trainings" })
    this.chart = h("section", { class: "card", "aria-label": "Learning curves" })
    this.element = h("div", { class: "panel" }, this.chart, this.rows)
    new ResizeObserver(() => {
      if (this.trainings.length && this.chart.clientWidth !== this.width) this.#drawChart()
    }).observe(this.chart)
  }

  async load() {
    const trainings = []
    for (let token = ""; token !== null; ) {
      const page = await ask(`/v1/sweeps/${this.sweep.id}/trainings?page_size=1000${token && `&page_token=${token}`}`, {
        signal: this.signal,
      })
      trainings.push(...page.trainings)
      this.counts = page.counts
      token = page.next_page_token
    }
    this.trainings = trainings
    await this.loadCurves()
    this.draw()
  }

  async poll() {
    while (!this.signal.aborted) {
      const open = OPEN.some((state) => this.counts[state])
      await new Promise((resolve) => setTimeout(resolve, open ? EVERY_MS : IDLE_EVERY_MS))
      try {
        if (!this.signal.aborted) await this.load()
      } catch {
        /* the next turn asks again */
      }
    }
  }

  get drawn() {
    if (this.shown) return this.trainings.filter((training) => this.shown.includes(training.id)).slice(0, CURVES)
    const begun = this.trainings.filter((training) => training.epochs_done)
    return begun.sort((a, b) => b.best_accuracy - a.best_accuracy).slice(0, CURVES)
  }

  async loadCurves() {
    await Promise.all(
      this.drawn.map(async (training) => {
        if (this.curves.get(training.id)?.length === training.epochs_done) return
        this.curves.set(training.id, (await ask(`/v1/trainings/${training.id}`, { signal: this.signal })).curve)
      }),
    )
  }

  draw() {
    this.chart.hidden = !this.trainings.length
    if (!this.trainings.length) {
      this.rows.replaceChildren(
        emptyState(
          "Nothing is trained yet",
          `Train the best networks of this sweep by gradient descent: convsweep train ${this.sweep.id} --top 10`,
        ),
      )
      return
    }
    this.#drawChart()
    if (!this.rows.contains(document.activeElement))
      this.rows.replaceChildren(this.#downloads(), this.#table(this.drawn.map((training) => training.id)))
  }

  #drawChart() {
    const drawn = this.drawn
    this.width = this.chart.clientWidth
    const { paddingLeft, paddingRight } = getComputedStyle(this.chart)
    const width = Math.max(240, this.width - parseFloat(paddingLeft) - parseFloat(paddingRight))
    this.chart.replaceChildren(
      h("h2", {}, "Learning curves"),
      drawn.length
        ? curvesFigure(drawn, this.curves, width)
        : h("p", { class: "muted" }, "Choose trainings below; a curve begins with the first epoch."),
    )
  }

  #downloads() {
    const button = (form, title) =>
      h(
        "button",
        {
          type: "button",
          on: {
            click: () =>
              download(`/v1/sweeps/${this.sweep.id}/trainings.${form}`, `trainings-${this.sweep.id}.${form}`).catch(
                (error) => announce(error.message),
              ),
          },
        },
        title,
      )
    const said = Object.entries(this.counts)
      .filter(([, many]) => many)
      .map(([state, many]) => `${count(many)} ${state}`)
      .join(", ")
    return h(
      "div",
      { class: "row" },
      h("span", { class: "muted" }, said),
      button("csv", "CSV"),
      button("md", "Markdown"),
    )
  }

  #table(drawn) {
    const box = (training) =>
      h("input", {
        type: "checkbox",
        checked: drawn.includes(training.id),
        disabled: !training.epochs_done,
        "aria-label": `Curve of training ${training.id}`,
        on: { change: (event) => this.#choose(training.id, event.target) },
      })
    return table(
      "Trainings",
      [
        ["Curve", false, box],
        ["Network", false, (training) => h("a", { href: `#/jobs/${training.job_id}` }, network(training.layers))],
        [
          "State",
          false,
          (training) =>
            h("span", { title: training.error ?? training.note }, pill(training.status, training.status === "running")),
        ],
        ["Epoch", true, (training) => `${training.epochs_done} / ${training.epochs}`],
        ["Best", true, (training) => percent(training.best_accuracy)],
        ["Last", true, (training) => percent(training.last_accuracy)],
        ["Probe", true, (training) => percent(training.probe_accuracy)],
        ["Parameters", true, (training) => count(training.parameters)],
        ["Minutes", true, (training) => significant(training.minutes)],
        ["Images/s", true, (training) => significant(training.images_per_s)],
        ["Device", false, (training) => training.device ?? "–"],
      ],
      this.trainings,
    )
  }

  async #choose(id, box) {
    const before = this.drawn.map((training) => training.id)
    const chosen = box.checked ? [...before, id] : before.filter((other) => other !== id)
    if (chosen.length > CURVES) {
      box.checked = false
      announce(`${CURVES} curves at most; remove one first.`)
      return
    }
    this.shown = chosen
    setParams({ trainings: chosen.join(",") })
    await this.loadCurves()
    this.#drawChart()
  }
}

const [HEIGHT, LEFT, TOP, BOTTOM] = [240, 48, 10, 24]

/** Validation accuracy by epoch, full; training accuracy, faint. Drawn for a width, so that text keeps its size. */
function curvesFigure(trainings, curves, width) {
  const all = trainings.flatMap((training) => curves.get(training.id) ?? [])
  const most = Math.max(...all.map((epoch) => Math.max(epoch.validation_accuracy, epoch.train_accuracy)))
  const least = Math.min(...all.map((epoch) => Math.min(epoch.validation_accuracy, epoch.train_accuracy)))
  const last = Math.max(2, ...all.map((epoch) => epoch.epoch), ...trainings.map((training) => training.epochs))
  const x = (epoch) => LEFT + ((width - LEFT - 8) * (epoch - 1)) / (last - 1)
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (most > least ? 1 - (value - least) / (most - least) : 0.5)
  const line = (training, place, field, faint) =>
    s("polyline", {
      points: (curves.get(training.id) ?? []).map((epoch) => `${x(epoch.epoch)},${y(epoch[field])}`).join(" "),
      class: `curve curve-${place}`,
      opacity: faint ? 0.3 : 1,
    })
  const words = trainings
    .map(
      (training) => `training ${training.id}: best ${percent(training.best_accuracy)} at epoch ${training.best_epoch}`,
    )
    .join("; ")
  return h(
    "figure",
    { class: "curves" },
    s(
      "svg",
      { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `Validation accuracy by epoch. ${words}` },
      [most, least].map((value) =>
        s(
          "g",
          {},
          s("line", { x1: LEFT, x2: width, y1: y(value), y2: y(value), stroke: "var(--line)" }),
          s("text", { x: 0, y: y(value) + 4 }, percent(value)),
        ),
      ),
      [1, last].map((epoch) =>
        s("text", { x: x(epoch), y: HEIGHT - 4, "text-anchor": epoch === 1 ? "start" : "end" }, `epoch ${epoch}`),
      ),
      trainings.map((training, place) =>
        s(
          "g",
          {},
          line(training, place, "train_accuracy", true),
          line(training, place, "validation_accuracy", false),
          (curves.get(training.id) ?? []).map((epoch) =>
            s(
              "circle",
              { cx: x(epoch.epoch), cy: y(epoch.validation_accuracy), r: 2.5, class: `curve-dot curve-${place}` },
              s("title", {}, epochWords(training, epoch)),
            ),
          ),
        ),
      ),
    ),
    h(
      "figcaption",
      {},
      h(
        "ul",
        { class: "keys" },
        trainings.map((training, place) =>
          h("li", { class: `key curve-${place}` }, `training ${training.id} · `, network(training.layers)),
        ),
      ),
      h("p", { class: "muted small" }, "Validation accuracy in full colour, training accuracy faint."),
    ),
  )
}

function epochWords({ id }, { epoch, validation_accuracy, train_accuracy }) {
  const [validation, training] = [validation_accuracy, train_accuracy].map((value) => percent(value))
  return `training ${id}, epoch ${epoch}: ${validation} of validation, ${training} of training images`
}
