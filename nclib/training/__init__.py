"""Training as a generator: it pauses where asked, and knows nothing of what is measured there."""

from nclib.training.checkpoint import Checkpoint
from nclib.training.engine import Diverged, Stopped, request_stop
from nclib.training.loop import log_spaced, train
from nclib.training.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    learning_rate_factor,
    learning_rates,
    make_optimizer,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Checkpoint",
    "Diverged",
    "Stopped",
    "learning_rate_factor",
    "learning_rates",
    "log_spaced",
    "make_optimizer",
    "request_stop",
    "train",
]
