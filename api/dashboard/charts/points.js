// Tens of thousands of points by WebGL, in one draw call.

const VERTEX = `
  attribute vec2 place;
  attribute float shade;
  attribute float lit;
  uniform vec2 low;
  uniform vec2 span;
  uniform float size;
  uniform float opacity;
  uniform vec3 stops[5];
  uniform vec3 unknown;
  varying vec4 colour;
  void main() {
    gl_Position = vec4(2.0 * (place - low) / span - 1.0, 0.0, 1.0);
    gl_PointSize = size;
    vec3 tone = stops[0];
    for (int i = 1; i < 5; i++) tone = mix(tone, stops[i], clamp(4.0 * shade - float(i - 1), 0.0, 1.0));
    float alpha = lit > 1.5 ? 1.0 : lit > 0.5 ? opacity : 0.08;
    colour = vec4((shade < 0.0 ? unknown : tone) * alpha, alpha);
  }`
const FRAGMENT = `
  precision mediump float;
  varying vec4 colour;
  void main() {
    if (length(gl_PointCoord - 0.5) > 0.5) discard;
    gl_FragColor = colour;
  }`
const NAMES = ["low", "span", "size", "opacity", "stops", "unknown"]

/** Brightness of a point: like the others, picked out of them, or left behind. */
export const LIT = { usual: 1, picked: 2, left: 0 }

export class Points {
  constructor() {
    this.canvas = document.createElement("canvas")
    this.gl = null
    this.count = 0
    /** @type {(() => void) | null} called when the browser gives a lost context back */
    this.onRestored = null
  }

  /** Asks for WebGL, which takes browsers a while; `gl` is null after it where there is none. */
  start() {
    if (this.gl) return
    this.gl = this.canvas.getContext("webgl", { antialias: false })
    if (!this.gl) return
    this.#prepare()
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault())
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.#prepare()
      this.onRestored?.()
    })
  }

  #prepare() {
    const { gl } = this
    const program = gl.createProgram()
    /** @type {[number, string][]} */
    const shaders = [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]
    for (const [kind, text] of shaders) {
      const shader = gl.createShader(kind)
      gl.shaderSource(shader, text)
      gl.compileShader(shader)
      gl.attachShader(program, shader)
    }
    gl.linkProgram(program)
    gl.useProgram(program)
    gl.enable(gl.BLEND)
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA)
    this.at = Object.fromEntries(NAMES.map((name) => [name, gl.getUniformLocation(program, name)]))
    const sizes = { place: 2, shade: 1, lit: 1 }
    this.buffers = Object.fromEntries(
      Object.entries(sizes).map(([name, parts]) => {
        const buffer = gl.createBuffer()
        const attribute = gl.getAttribLocation(program, name)
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer)
        gl.enableVertexAttribArray(attribute)
        gl.vertexAttribPointer(attribute, parts, gl.FLOAT, false, 0, 0)
        return [name, buffer]
      }),
    )
  }

  /** Takes what is drawn from now on: `place` in pairs from 0 to 1, `shade` from 0 to 1 or -1, `lit`. */
  set(name, values) {
    const { gl } = this
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name])
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW)
    if (name === "shade") this.count = values.length
  }

  draw({ low, span, size, opacity, stops, unknown }) {
    const { gl, at, canvas } = this
    gl.viewport(0, 0, canvas.width, canvas.height)
    gl.clear(gl.COLOR_BUFFER_BIT)
    gl.uniform2fv(at.low, low)
    gl.uniform2fv(at.span, span)
    gl.uniform1f(at.size, size)
    gl.uniform1f(at.opacity, opacity)
    gl.uniform3fv(at.stops, stops)
    gl.uniform3fv(at.unknown, unknown)
    gl.drawArrays(gl.POINTS, 0, this.count)
  }

  /** Gives the graphics memory back now: browsers keep few contexts. */
  end() {
    this.gl?.getExtension("WEBGL_lose_context")?.loseContext()
  }
}
