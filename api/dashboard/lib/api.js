// Requests to the API: the key, problems in words, files, and the stream of a sweep's events.

import { askKey } from "./dialog.js"

const KEY = "convsweep.key"
const AGAIN_MS = 400

/** An answer that is a problem: RFC 9457's `detail`, our stable `code`, the HTTP status. */
export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail)
    this.status = status
    this.code = code
  }
}

/**
 * Asks the API and returns what it answers. A key is asked for where one is needed, and kept for
 * only this tab.
 * @param {string} path
 * @param {{method?: string, body?: any, signal?: AbortSignal, headers?: Record<string, string>}} [options]
 */
export async function ask(path, options = {}) {
  return JSON.parse(await (await request(path, options)).text(), exactSeeds)
}

/** Keeps seeds of 63 bits as their text: a JavaScript number would round them. */
function exactSeeds(name, value, context) {
  return name === "weights_seed" ? (context?.source ?? value) : value
}

/** Asks for large columns of numbers, which nothing looks through. */
export async function askColumns(path, options = {}) {
  return (await request(path, options)).json()
}

/**
 * @param {string} path
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal, headers?: Record<string, string> }} options
 */
export async function request(path, { method = "GET", body, signal, headers = {} } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY)
    const response = await send(path, {
      method,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: {
        ...headers,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
      },
    })
    if (response.ok) return response
    const problem = await problemOf(response)
    if (response.status !== 401) throw problem
    // several requests may be refused at once; one of them asks, the others wait for its key
    if (sessionStorage.getItem(KEY) === key) await newKey(key ? problem.message : "")
  }
}

async function send(path, options, again = options.method === "GET") {
  try {
    // relative to the page, which may lie below a path of a reverse proxy
    return await fetch(new URL(path.replace(/^\//, ""), document.baseURI), options)
  } catch (error) {
    if (error.name === "AbortError") throw error
    if (again) {
      // reading twice does no harm, and networks come and go
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
      return send(path, options, false)
    }
    throw new Problem(
      0,
      "unreachable",
      "The API does not answer. Is it running? Start it with `convsweep up`, then try again.",
    )
  }
}

async function problemOf(response) {
  const problem = await response.json().catch(() => ({}))
  return new Problem(
    response.status,
    problem.code ?? "unknown",
    problem.detail ?? `The API answered ${response.status}.`,
  )
}

let asking = null
function newKey(complaint) {
  asking ??= askKey(complaint)
    .then((key) => sessionStorage.setItem(KEY, key))
    .finally(() => {
      asking = null
    })
  return asking
}

/** Hands a file of the API's to the browser's downloads. */
export async function download(path, name) {
  const blob = await (await request(path)).blob()
  const link = document.createElement("a")
  link.href = URL.createObjectURL(blob)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

/**
 * Yields a sweep's events until it ends, and goes on by itself after a cut. `EventSource` cannot
 * send a key, so the stream is read by `fetch`.
 * @returns {AsyncGenerator<{event: string, data: any}>}
 */
export async function* watchSweep(sweepId, signal) {
  let lastId = null
  while (!signal.aborted) {
    try {
      const response = await request(`/v1/sweeps/${sweepId}/events`, {
        signal,
        headers: lastId ? { "Last-Event-ID": lastId } : {},
      })
      for await (const message of messages(response.body)) {
        lastId = message.id ?? lastId
        if (message.data !== undefined) yield { event: message.event, data: JSON.parse(message.data) }
        if (message.event === "end") return
      }
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return
      if (error instanceof Problem && error.status === 422 && lastId) lastId = null
      else if (error instanceof Problem && [403, 404, 422].includes(error.status)) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 2000))
  }
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ""
  try {
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return
      text = (text + value).replaceAll("\r\n", "\n")
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        yield parse(text.slice(0, end))
        text = text.slice(end + 2)
      }
    }
  } finally {
    await reader.cancel().catch(() => {})
  }
}

function parse(block) {
  const found = {}
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":")
    if (colon <= 0) continue
    const name = line.slice(0, colon)
    const value = line.slice(colon + 1).replace(/^ /, "")
    found[name] = name === "data" && found.data !== undefined ? `${found.data}\n${value}` : value
  }
  return found
}
