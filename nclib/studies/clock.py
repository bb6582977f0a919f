"""Weight decay's clock: what the learning rates of a run let weight decay do, whatever the data.

`run` is anything with a run's parameters as attributes: the study's `Params`, or a row of a table of runs.
"""

import pandas as pd

from nclib.theory import zhao2026
from nclib.training import learning_rates


def rates(run) -> tuple[list[float], int]:
    """The learning rate of every step of a run, and the number of steps in an epoch."""
    steps = max(int(run.train_size // run.batch_size), 1)
    return learning_rates(run.lr, run.schedule, run.epochs, steps), steps


def row_sum_factors(run) -> pd.Series:
    r"""By epoch, what is left of $W^\top 1$ under SGD: `zhao2026.row_sum_factors` at the end of each."""
    each, steps = rates(run)
    left = zhao2026.row_sum_factors(each, run.weight_decay, run.momentum)[steps - 1 :: steps]
    return pd.Series(left.tolist(), index=range(1, run.epochs + 1))


def spent(run) -> float:
    r"""Learning rate times decay over the run, $\sum_t\eta_t\lambda$, under SGD over $1 - \mu$.

    By so many powers of e would decay alone shrink a weight, where it is not rescaled as Adam's is.
    """
    each, _ = rates(run)
    return sum(each) * run.weight_decay / (1 - run.momentum if run.optimizer == "sgd" else 1)
