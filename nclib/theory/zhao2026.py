r"""The sum of a classifier's rows under stochastic gradient descent (Zhao et al., 2026).

The gradient of the cross-entropy with respect to the logits sums to zero over the classes, for every sample:
softmax and one-hot label both sum to one. So $\nabla_W$ has rows that sum to zero, and $W^\top 1$ moves by
weight decay alone.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def row_sum_factors(
    rates: Sequence[float], weight_decay: float, momentum: float = 0.0
) -> Float[Tensor, " steps"]:
    r"""What SGD leaves of $W^\top 1$ after each step, as a share of the $W_0^\top 1$ that it began with.

    $v_t = \mu v_{t-1} + \lambda s_{t-1}$ and $s_t = s_{t-1} - \eta_t v_t$ from $v_0 = 0$, $s_0 = 1$, whatever the
    data are; without momentum $s_t = \prod_{i \le t}(1 - \eta_i\lambda)$. It holds for a decay that is added to
    the gradient, as torch's SGD does; Adam divides the gradient by a number of every entry's own, which leaves no
    zero sum.

    rates: the learning rate $\eta_t$ of each step. weight_decay: $\lambda$. momentum: $\mu$, without dampening.

    Raises ValueError for a number that is not finite or below zero. Zhao et al. (2026); the momentum is ours.
    """
    if not all(math.isfinite(x) and x >= 0 for x in (*rates, weight_decay, momentum)):
        raise ValueError("learning rates, weight decay and momentum must be finite numbers of at least 0")
    velocity, left = 0.0, 1.0
    factors = []
    for rate in rates:
        velocity = momentum * velocity + weight_decay * left
        left -= rate * velocity
        factors.append(left)
    return torch.tensor(factors, dtype=torch.float64)
