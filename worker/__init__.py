"""The process on the device machine: it claims groups, evaluates them and reports outcomes."""
