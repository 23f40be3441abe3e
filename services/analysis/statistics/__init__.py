"""Statistics on numpy arrays: pure numerics that know no database and no sweep.

Formulas and sources are in docs/protocol.md. scipy is imported where it is used, so that the API
starts without it.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
