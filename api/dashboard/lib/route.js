// Where the page is: everything that is shown can be read from the part of the URL after `#`.

/** @returns {{path: string[], params: URLSearchParams}} */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?")
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), params: new URLSearchParams(query) }
}

/** Writes parameters into the URL without leaving the view; null removes one. */
export function setParams(changes) {
  const { path, params } = here()
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name)
    for (const one of [value].flat()) if (one != null && one !== "") params.append(name, one)
  }
  history.replaceState(null, "", link(path, params))
}

/** @param {(string | number)[]} path */
export function link(path, params = {}) {
  const query = new URLSearchParams(params).toString()
  return `#/${path.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`
}
