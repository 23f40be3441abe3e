// Which architecture has which place in a sweep's space; the order is that of shared/domain/space.py.

export const LAYER_FIELDS = ["channels", "kernel_size", "stride", "dilation", "padding", "activation"]

/** Decodes places in a space into layers, and into columns of one setting. */
export class Space {
  constructor(space) {
    this.layers = space.layers
    const sizes = space.layers.map((layer) => LAYER_FIELDS.reduce((size, field) => size * layer[field].length, 1))
    let start = 0
    this.blocks = (space.depths ?? [sizes.length]).map((depth) => {
      const size = sizes.slice(0, depth).reduce((a, b) => a * b, 1)
      const block = { depth, start, size, sizes: sizes.slice(0, depth) }
      start += size
      return block
    })
    this.depth = Math.max(...this.blocks.map((block) => block.depth))
  }

  /** Settings that the space offers a choice of, such as "kernel_size[0]". */
  varied() {
    return this.layers
      .slice(0, this.depth)
      .flatMap((layer, number) =>
        LAYER_FIELDS.filter((field) => layer[field].length > 1).map((field) => `${field}[${number}]`),
      )
  }

  varied_numbers() {
    return this.varied().filter((name) => !name.startsWith("activation"))
  }

  /** @returns {object[]} the layers of the network at a place */
  at(index) {
    const block = this.#block(index)
    return block.sizes.map((_, number) =>
      Object.fromEntries(LAYER_FIELDS.map((field) => [field, this.#choice(block, index, field, number)])),
    )
  }

  /** The values of a setting for many places; null where a network has no such layer. */
  column(name, indices) {
    const [, field, number] = /^([a-z_]+)\[(\d+)\]$/.exec(name)
    return indices.map((index) => {
      const block = this.#block(index)
      return Number(number) < block.depth ? this.#choice(block, index, field, Number(number)) : null
    })
  }

  #block(index) {
    return this.blocks.find((block) => index < block.start + block.size) ?? this.blocks[0]
  }

  #choice(block, index, field, number) {
    let after = 1
    for (let later = number + 1; later < block.depth; later++) after *= block.sizes[later]
    let place = Math.floor((index - block.start) / after) % block.sizes[number]
    const layer = this.layers[number]
    for (let last = LAYER_FIELDS.length - 1; last >= 0; last--) {
      const choices = layer[LAYER_FIELDS[last]]
      if (LAYER_FIELDS[last] === field) return choices[place % choices.length]
      place = Math.floor(place / choices.length)
    }
    return null
  }
}
