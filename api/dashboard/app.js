// The page's frame: which view is shown, which theme, and what is said when something goes wrong.

import { announce, emptyState, h } from "./lib/dom.js"
import { here } from "./lib/route.js"

const VIEWS = {
  sweeps: (path) => (path.length > 1 ? import("./views/sweep.js") : import("./views/sweeps.js")),
  new: () => import("./views/new_sweep.js"),
  workers: () => import("./views/workers.js"),
  jobs: () => import("./views/job.js"),
  compare: () => import("./views/compare.js"),
}

let leaving = new AbortController()

async function show() {
  leaving.abort()
  const staying = new AbortController()
  leaving = staying
  const { path, params } = here()
  const name = path[0] ?? "sweeps"
  markNavigation(name)
  const main = document.getElementById("main")
  const view = h("div", { class: "panel view" })
  main.replaceChildren(view) // figures need to know how wide they are
  try {
    if (!VIEWS[name]) throw new Error("There is no such page.")
    const module = await VIEWS[name](path)
    const title = await module.show(view, { path, params, signal: staying.signal })
    if (staying.signal.aborted) return
    document.title = `${title} · convsweep`
    announce(title)
  } catch (error) {
    if (staying.signal.aborted) return
    document.title = "Problem · convsweep"
    main.replaceChildren(
      h(
        "div",
        { class: "card", role: "alert" },
        emptyState(
          error.status === 404 ? "Not here" : "That did not work",
          error.message,
          h("button", { class: "primary", type: "button", on: { click: show } }, "Try again"),
          h("a", { class: "button", href: "#/sweeps" }, "All sweeps"),
        ),
      ),
    )
  }
}

function markNavigation(name) {
  for (const link of document.querySelectorAll(".top nav a")) {
    const current = link.getAttribute("href") === `#/${name === "new" || name === "jobs" ? "sweeps" : name}`
    if (current) link.setAttribute("aria-current", "page")
    else link.removeAttribute("aria-current")
  }
}

const THEME = "convsweep.theme"
const dark = matchMedia("(prefers-color-scheme: dark)")

function applyTheme() {
  document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? (dark.matches ? "dark" : "light")
  document.dispatchEvent(new Event("themechange"))
}

document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark")
  applyTheme()
})
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault()
  document.getElementById("main").focus()
})
dark.addEventListener("change", applyTheme)
window.addEventListener("hashchange", show)
applyTheme()
show()
