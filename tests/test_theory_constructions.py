"""Points that closed forms construct: a generator turns them at random, and they stay what they are."""

import pytest
import torch
from samplers import generator

from nclib.theory import critical_points, ji2021, mixon2020, tirer2022, tirer2022_extended, zhu2021

SIZES = {"num_classes": 4, "per_class": 3}
TWO = {**SIZES, "lambda_W": 5e-3, "lambda_H": 2e-2}
THREE = {**SIZES, "lambda_W2": 0.1, "lambda_W1": 0.5, "lambda_H": 0.4}
CONSTRUCTIONS = {
    "zhu2021": zhu2021.global_minimum(**TWO).construct,
    "tirer2022, free bias": tirer2022.global_minimum(**TWO).construct,
    "tirer2022, no bias": tirer2022.global_minimum(**TWO, bias=False).construct,
    "tirer2022_extended": tirer2022_extended.global_minimum(**THREE).construct,
    "ji2021": lambda d, draws=None: ji2021.collapsed_direction(**SIZES, d=d, generator=draws),
    "mixon2020": lambda d, draws=None: mixon2020.strong_collapse(**SIZES, d=d, generator=draws),
    "two groups": lambda d, draws=None: critical_points.grouped(**TWO, groups=2, d=d, generator=draws),
}


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_a_generator_turns_a_construction_at_random_and_changes_nothing_else(name):
    construct = CONSTRUCTIONS[name]
    plain, again = construct(6), construct(6)
    turned, same, other = (construct(6, generator(seed)) for seed in (1, 1, 2))
    for i, part in enumerate(plain):
        if part is None or part.ndim == 1:  # a bias, which does not stand in feature space
            assert turned[i] is part is None or torch.equal(turned[i], part)
            continue
        assert torch.equal(again[i], part) and torch.equal(same[i], turned[i])
        lengths = torch.linalg.svdvals(part)
        for elsewhere in (turned[i], other[i]):
            torch.testing.assert_close(torch.linalg.svdvals(elsewhere), lengths, rtol=1e-12, atol=1e-13)
            assert (elsewhere - part).norm() > 0.1 * part.norm()
        assert (turned[i] - other[i]).norm() > 0.1 * part.norm()
