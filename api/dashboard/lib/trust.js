// What may become code or markup in this page: Plotly's script, and the draw calls that it writes.

const PLOTLY = "/dashboard/plotly.min.js"
// regl, Plotly's WebGL, makes functions whose parameters are g0, g1, ... and whose text is strict
const DRAW_CALL = /^\(function anonymous\((g\d+(,g\d+)*)?\n\) \{\n"use strict";/

/** Holds the whole page to it where the browser enforces trusted types. */
export function trustPlotlyAlone() {
  window.trustedTypes?.createPolicy("default", {
    createScript: (text) => (DRAW_CALL.test(text) ? text : null),
    createScriptURL: (url) => (new URL(url, location.href).href === new URL(PLOTLY, location.origin).href ? url : null),
    createHTML: (text) => (text === "" ? text : null), // to empty an element
  })
}
