// One architecture: its layers, trials, answers by image, neighbours, and how to build it again.

import { ask } from "../lib/api.js"
import {
  copyButton,
  count,
  decimal,
  emptyState,
  fieldName,
  figures,
  flop,
  h,
  moment,
  network,
  percent,
  pill,
  short,
  significant,
  table,
} from "../lib/dom.js"
import { link } from "../lib/route.js"

export async function show(view, { path, signal }) {
  const id = encodeURIComponent(path[1])
  const job = await ask(`/v1/jobs/${id}`, { signal })
  const answers = h("section", { class: "card", "aria-label": "Answers" })
  const neighbours = h("section", { class: "card flush", "aria-label": "Neighbours" })
  view.append(
    heading(job),
    summary(job),
    layers(job),
    h("div", { class: "columns" }, trials(job), rebuild(job)),
    answers,
    neighbours,
  )
  if (job.trials.length) showAnswers(answers, job, signal)
  else
    answers.append(
      h("h2", {}, "Answers by image"),
      emptyState(
        "Not measured",
        job.status === "invalid"
          ? "A kernel does not fit its input, or the ratio is out of bounds: nothing was computed."
          : "Answers appear with the first trial.",
      ),
    )
  showNeighbours(neighbours, job, signal)
  return `Job ${job.id}`
}

function heading(job) {
  return h(
    "div",
    { class: "row" },
    h(
      "div",
      { class: "title grow" },
      h(
        "p",
        { class: "crumbs" },
        h("a", { href: "#/sweeps" }, "Sweeps"),
        " / ",
        h("a", { href: link(["sweeps", job.sweep_id]) }, `#${job.sweep_id}`),
        ` / job ${job.id}`,
      ),
      h("div", { class: "row" }, h("h1", {}, `Job ${job.id}`), pill(job.status)),
      network(job.layers),
    ),
    h("a", { class: "button", href: link(["compare"], { jobs: String(job.id) }) }, "Compare with …"),
  )
}

function summary(job) {
  const spread = job.accuracy_sd == null ? "" : `± ${percent(job.accuracy_sd)} SD`
  const why =
    job.reason || job.error
      ? h("p", { class: "notice" }, [job.reason?.replaceAll("_", " "), job.error].filter(Boolean).join(": "))
      : null
  return h(
    "section",
    { class: "card", "aria-label": "Figures" },
    figures([
      ["accuracy", percent(job.accuracy, 2), spread],
      ["training accuracy", percent(job.train_accuracy)],
      ...job.throughputs.map(({ throughput, throughput_kind, throughput_measured, throughput_device }) => [
        "images a second",
        significant(throughput),
        `${throughput_kind === "predicted" ? "predicted, " : throughput_measured ? "" : "screened, "}on ${throughput_device}`,
      ]),
      ["output / input", decimal(job.ratio)],
      ["parameters", short(job.parameters)],
      ["per image", job.flops == null ? "–" : flop(job.flops)],
      ["trials", `${job.trials_done}`, `of ${job.trials_target}`],
    ]),
    why,
  )
}

function layers(job) {
  const input = job.protocol.input_shape
  const most = Math.max(...job.shapes.map((shape) => shape.flops), 1)
  const shape = (of) => of.join(" × ")
  const rows = job.layers.map((layer, number) => ({
    layer,
    number,
    before: number ? job.shapes[number - 1]?.shape : input,
    found: job.shapes[number],
  }))
  return h(
    "section",
    { class: "card flush", "aria-label": "Layers" },
    h(
      "div",
      { class: "row" },
      h("h2", {}, "Layers"),
      h("span", { class: "muted small" }, `input ${shape(input)} (channels × height × width)`),
    ),
    table(
      "Layers",
      [
        ["Layer", true, (row) => row.number + 1],
        [
          "Convolution",
          false,
          (row) => `${row.layer.channels} channels, ${row.layer.kernel_size} × ${row.layer.kernel_size}`,
        ],
        ["Stride", true, (row) => row.layer.stride],
        ["Dilation", true, (row) => row.layer.dilation],
        ["Padding", true, (row) => row.layer.padding],
        ["Activation", false, (row) => row.layer.activation],
        ["Output", true, (row) => (row.found ? shape(row.found.shape) : h("span", { class: "worse" }, "does not fit"))],
        ["Parameters", true, (row) => count(row.found?.parameters)],
        ["FLOPs per image", true, (row) => count(row.found?.flops)],
        [
          "Share of FLOPs",
          false,
          (row) =>
            row.found &&
            h(
              "span",
              { class: "share", role: "img", "aria-label": percent(row.found.flops / (job.flops || 1)) },
              h("i", { style: { width: `${(100 * row.found.flops) / most}%` } }),
            ),
        ],
      ],
      rows,
    ),
  )
}

function trials(job) {
  const body = job.trials.length
    ? table(
        "Trials",
        [
          ["Trial", true, (trial) => trial.trial],
          ["Accuracy", true, (trial) => percent(trial.accuracy)],
          ["Training", true, (trial) => percent(trial.train_accuracy)],
          ["Images/s", true, (trial) => significant(trial.throughput)],
          ["Fit, s", true, (trial) => significant(trial.fit_seconds)],
          ["Measured", true, (trial) => moment(trial.finished_at)],
          ["Weights seed", true, (trial) => h("code", {}, trial.weights_seed)],
        ],
        job.trials,
      )
    : emptyState("No trials", "Nothing has been measured for this network.")
  const places = [
    ...new Map(job.trials.map((trial) => [JSON.stringify(trial.environment), trial.environment])).values(),
  ]
  return h(
    "section",
    { class: "card flush", "aria-label": "Trials" },
    h("div", { class: "row" }, h("h2", {}, "Trials")),
    body,
    places.map((environment) =>
      h(
        "div",
        { class: "row" },
        h(
          "p",
          { class: "muted small" },
          `On ${environment.device} (${environment.device_class}) · code ${environment.code_version} · ${Object.entries(
            environment.versions,
          )
            .map(([name, version]) => `${name} ${version}`)
            .join(", ")} · ${environment.dataset} `,
          h("code", { title: environment.dataset_hash }, environment.dataset_hash.slice(0, 12)),
        ),
      ),
    ),
  )
}

const ACTIVATIONS = { relu: "nn.ReLU()", gelu: "nn.GELU()", silu: "nn.SiLU()", tanh: "nn.Tanh()" }

/** The network as PyTorch code. */
export function snippet(job) {
  const before = [job.protocol.input_shape[0], ...job.layers.map((layer) => layer.channels)]
  const lines = job.layers.flatMap((layer, number) => {
    const more = [
      ["stride", 1],
      ["dilation", 1],
      ["padding", 0],
    ]
      .filter(([name, usual]) => layer[name] !== usual)
      .map(([name]) => `, ${name}=${layer[name]}`)
    return [
      `    nn.Conv2d(${before[number]}, ${layer.channels}, ${layer.kernel_size}${more.join("")}),`,
      ...(ACTIVATIONS[layer.activation] ? [`    ${ACTIVATIONS[layer.activation]},`] : []),
    ]
  })
  return ["from torch import nn", "", "network = nn.Sequential(", ...lines, "    nn.Flatten(),", ")"].join("\n")
}

function rebuild(job) {
  const code = snippet(job)
  const command = `convsweep job ${job.id} --weights job-${job.id}.pt --trial 0`
  return h(
    "section",
    { class: "card", "aria-label": "Build it again" },
    h(
      "div",
      { class: "row" },
      h("h2", { class: "grow" }, "Build it again"),
      copyButton("Copy code", () => code),
    ),
    h("pre", { id: "snippet", tabindex: "0", role: "region", "aria-label": "PyTorch code" }, code),
    h(
      "div",
      { class: "row" },
      h("p", { class: "muted small grow" }, "The weights of a trial, drawn again exactly:"),
      copyButton("Copy command", () => command),
    ),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Command" }, command),
  )
}

async function showAnswers(place, job, signal) {
  try {
    const found = await ask(`/v1/jobs/${job.id}/answers`, { signal })
    const order = [...found.right.keys()].sort(
      (a, b) => (found.labels ? found.labels[a] - found.labels[b] : 0) || found.right[b] - found.right[a] || a - b,
    )
    const always = order.filter((image) => found.right[image] === found.trials).sort((a, b) => a - b)
    const never = order.filter((image) => found.right[image] === 0).sort((a, b) => a - b)
    const name = (image) =>
      `image ${image}${found.labels ? `, class ${found.labels[image]}` : ""}: right in ${found.right[image]} of ${found.trials} trials`
    place.append(
      h("h2", {}, "Answers by image"),
      h(
        "div",
        { class: "columns" },
        byClass(found),
        h(
          "div",
          { class: "panel" },
          h("h3", {}, `${count(found.right.length)} validation images${found.labels ? ", class by class" : ""}`),
          h(
            "div",
            {
              class: "mosaic",
              role: "img",
              "aria-label": `${always.length} images are always right, ${never.length} never`,
            },
            order.map((image) =>
              h("i", {
                title: name(image),
                class: found.right[image] === found.trials ? "always" : found.right[image] === 0 ? "never" : "",
                style: { "--right": found.right[image] / found.trials },
              }),
            ),
          ),
          list("Always right", "completed", always, found),
          list("Never right", "failed", never, found),
        ),
      ),
    )
  } catch (error) {
    if (error.name !== "AbortError")
      place.append(h("h2", {}, "Answers by image"), emptyState("No answers", error.message))
  }
}

function list(title, tone, images, found) {
  return h(
    "div",
    {},
    h("h3", { class: `key is-${tone}` }, `${title}: ${count(images.length)}`),
    h(
      "p",
      { class: "indices", tabindex: "0", role: "region", "aria-label": `${title}, places in the validation set` },
      images.map((image) => (found.labels ? `${image} (${found.labels[image]})` : image)).join(", ") || "none",
    ),
  )
}

function byClass(found) {
  const body = found.classes.length
    ? table(
        "Accuracy by class",
        [
          ["Class", true, (answer) => answer.label],
          ["Images", true, (answer) => answer.images],
          ["Accuracy", true, (trial) => percent(trial.accuracy)],
          [
            "",
            false,
            (answer) =>
              h(
                "span",
                { class: "share", "aria-hidden": "true" },
                h("i", { style: { width: `${100 * answer.accuracy}%` } }),
              ),
          ],
        ],
        found.classes,
      )
    : emptyState(
        "Labels are not known",
        "They come from workers as they load the images. Extend the sweep by a trial, and they are here.",
      )
  return h("div", { class: "panel" }, h("h3", {}, `Accuracy by class, over ${found.trials} trials`), body)
}

async function showNeighbours(place, job, signal) {
  try {
    const found = await ask(`/v1/jobs/${job.id}/neighbours`, { signal })
    place.append(
      h(
        "div",
        { class: "row" },
        h("h2", { class: "grow" }, "Neighbours, one setting away"),
        found.length
          ? h(
              "a",
              {
                class: "button",
                href: link(["compare"], {
                  jobs: [
                    job.id,
                    ...found
                      .filter((neighbour) => neighbour.job.trials_done)
                      .sort((a, b) => b.job.accuracy - a.job.accuracy)
                      .slice(0, 3)
                      .map((neighbour) => neighbour.job.id),
                  ].join(","),
                }),
              },
              "Compare with the best three",
            )
          : null,
      ),
      found.length
        ? table(
            "Neighbours",
            [
              ["Setting", false, (neighbour) => fieldName(neighbour.parameter)],
              ["Here → there", false, (neighbour) => `${neighbour.was} → ${neighbour.now}`],
              ["Job", true, (neighbour) => h("a", { href: link(["jobs", neighbour.job.id]) }, neighbour.job.id)],
              ["State", false, (neighbour) => pill(neighbour.job.status)],
              ["Accuracy", true, (neighbour) => percent(neighbour.job.accuracy, 2)],
              ["Difference", true, (neighbour) => difference(neighbour.job.accuracy, job.accuracy)],
              ["Images/s", true, (neighbour) => significant(neighbour.job.throughput)],
            ],
            found,
          )
        : emptyState("No neighbours", "The space offers no other choice for any setting."),
    )
  } catch (error) {
    if (error.name !== "AbortError") place.append(emptyState("Neighbours did not come", error.message))
  }
}

function difference(theirs, mine) {
  if (theirs == null || mine == null) return "–"
  const points = 100 * (theirs - mine)
  return h(
    "span",
    { class: points > 0 ? "better" : points < 0 ? "worse" : "" },
    `${points > 0 ? "+" : points < 0 ? "−" : ""}${Math.abs(points).toFixed(2)} points`,
  )
}
