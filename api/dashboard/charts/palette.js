// Colours of the page's charts, in the current theme.

import { s } from "../lib/dom.js"

/** @type {Record<string, string[]>} evenly spaced, from the lowest value to the highest */
const SCALES = {
  light: ["#2a1a6e", "#3056d3", "#1792a8", "#5bb15a", "#d9a520"],
  dark: ["#5a5fd8", "#5c9bff", "#3fc7c9", "#9bdc74", "#ffe07a"],
}

/** The value of one of the page's custom properties, e.g. "muted".
 * @param {string} name */
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()

export const colorStops = () => SCALES[document.documentElement.dataset.theme ?? "light"] ?? SCALES.light

/** Red, green and blue from 0 to 1.
 * @param {string} hex */
export const rgb = (hex) => [1, 3, 5].map((place) => Number.parseInt(hex.slice(place, place + 2), 16) / 255)

/**
 * The scale in steps, as CSS colours of one opacity.
 * @param {number} steps
 * @param {number} opacity
 */
export function colorSteps(steps, opacity) {
  const stops = colorStops().map(rgb)
  return Array.from({ length: steps }, (_, step) => {
    const at = (step / (steps - 1)) * (stops.length - 1)
    const left = Math.min(Math.floor(at), stops.length - 2)
    const parts = stops[left].map((value, part) => value + (at - left) * (stops[left + 1][part] - value))
    return `rgb(${parts.map((part) => Math.round(255 * part)).join(" ")} / ${opacity})`
  })
}

/**
 * An SVG gradient of the scale, from bottom to top.
 * @param {string} id
 */
export function gradient(id) {
  const stops = colorStops()
  const marks = stops.map((stop, place) => s("stop", { offset: place / (stops.length - 1), "stop-color": stop }))
  return s("defs", {}, s("linearGradient", { id, x1: 0, x2: 0, y1: 1, y2: 0 }, marks))
}
