"""What a user can do with a sweep or a training that exists."""

from enum import StrEnum


class Action(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"  # permanent
    RETRY = "retry"  # what has failed
