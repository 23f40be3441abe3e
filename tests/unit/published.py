"""The experiment's published figures that our arithmetic must reproduce, and nothing else of it.

Source: the random-CNN experiment of 2025-06-17; inputs are 3 x 96 x 96, three layers, no padding.
"""

Triple = tuple[int, int, int]

INPUT_SHAPE = (3, 96, 96)
CLASSES = 10

# kernel sizes, strides, dilations, output / input elements as printed (seven digits)
RATIOS: tuple[tuple[Triple, Triple, Triple, float], ...] = (
    ((7, 3, 5), (2, 1, 2), (1, 3, 1), 0.375),
    ((7, 3, 9), (2, 1, 2), (3, 1, 1), 0.2604166),
    ((9, 3, 7), (3, 1, 1), (1, 1, 1), 0.5601852),
    ((9, 3, 7), (3, 1, 1), (2, 1, 1), 0.4178241),
    ((9, 3, 5), (3, 1, 1), (1, 1, 1), 0.6666666),
    ((5, 5, 3), (3, 1, 1), (3, 1, 3), 0.375),
    ((7, 3, 3), (3, 1, 1), (3, 3, 1), 0.375),
    ((7, 3, 3), (3, 1, 2), (3, 1, 1), 0.1400463),
    ((5, 3, 5), (3, 2, 1), (2, 1, 1), 0.1157407),
)

# kernel sizes, strides, dilations, parameters with the head at 32 channels, at 128 channels
PARAMETERS: tuple[tuple[Triple, Triple, Triple, int, int], ...] = (
    ((7, 3, 5), (2, 1, 2), (1, 3, 1), 143_306, 990_986),
    ((7, 3, 9), (2, 1, 2), (3, 1, 1), 168_970, 1_781_770),
    ((9, 3, 7), (3, 1, 1), (1, 1, 1), 222_154, 1_601_290),
    ((9, 3, 7), (3, 1, 1), (2, 1, 1), 182_794, 1_443_850),
    ((9, 3, 5), (3, 1, 1), (1, 1, 1), 227_018, 1_325_834),
    ((5, 5, 3), (3, 1, 1), (3, 1, 3), 141_002, 981_770),
    ((7, 3, 3), (3, 1, 1), (3, 3, 1), 126_922, 728_842),
    ((7, 3, 3), (3, 1, 2), (3, 1, 1), 61_962, 469_002),
    ((5, 3, 5), (3, 2, 1), (2, 1, 1), 69_322, 695_050),
    ((9, 9, 7), (2, 2, 1), (2, 1, 1), 173_002, 2_289_418),
)
