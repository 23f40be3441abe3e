"""Names of calibrated scales: the throughputs of a device model, corrected and predicted."""

_MARK = " (calibrated)"
BRIDGE_SHARE = 0.03  # of a space, timed on every model, by default


def calibrated_scale(device: str) -> str:
    """Returns the name of a device model's calibrated throughputs, where views ask for a model."""
    return f"{device}{_MARK}"


def is_calibrated_scale(name: str) -> bool:
    """Returns whether a name is that of calibrated throughputs, and not a device model's own."""
    return name.endswith(_MARK)
