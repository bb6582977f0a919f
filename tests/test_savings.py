"""What a fixed classifier saves: counts that are those of built networks and of the published tables."""

import pandas as pd
import pytest
from samplers import generator

from nclib import models
from nclib.models import savings
from nclib.models.savings import trainable


@pytest.mark.parametrize(
    ("network", "published"),
    [
        # torchvision's documented num_params of its ImageNet weights
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("densenet169", 14_149_480),
        ("shufflenet_v2", 2_278_604),
    ],
)
def test_with_a_thousand_classes_the_counts_are_torchvisions(network, published):
    assert trainable(network, 1000) == published
    assert trainable(network, 999) != published


@pytest.mark.parametrize("d", [None, 10, 512, 7])
@pytest.mark.parametrize("K", [10, 100])
def test_the_count_is_that_of_the_network_we_build(K, d):
    built = models.build("resnet18", num_classes=K, in_channels=3, feature_dim=d, generator=generator())
    size = sum(p.numel() for p in built.parameters())
    assert trainable("resnet18", K, stem=3, d=d) == size
    assert trainable("resnet18", K, stem=7, d=d) == size + (49 - 9) * 3 * 64
    built.head.weight.requires_grad_(False)
    size = sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert trainable("resnet18", K, stem=3, d=d, fixed=True) == size


@pytest.mark.parametrize("network", savings.table().network.unique())
def test_fixing_the_classifier_leaves_its_bias_to_be_trained(network):
    d = (trainable(network, 11) - trainable(network, 10)) - 1
    assert trainable(network, 10) - trainable(network, 10, fixed=True) == 10 * d
    assert trainable(network, 11, fixed=True) - trainable(network, 10, fixed=True) == 1


@pytest.mark.parametrize(("network", "block", "inner"), [("resnet18", 9, 512), ("resnet50", 1, 512)])
def test_d_changes_the_last_convolution_and_adds_a_shortcut(network, block, inner):
    own = {"resnet18": 512, "resnet50": 2048}[network]
    assert trainable(network, 10, d=own) == trainable(network, 10), "no shortcut where d stays"
    assert trainable(network, 10, d=own + 1) - trainable(network, 10) > own**2, "and one where it does not"
    per_output = block * inner + 2 + own + 2 + 10  # both convolutions, their normalisations, the classifier
    assert trainable(network, 10, d=11) - trainable(network, 10, d=10) == per_output


def test_a_fifth_is_saved_in_resnet18_by_the_dimension_and_next_to_nothing_by_the_fixed_classifier():
    assert trainable("resnet18", 10) == 11_181_642
    assert trainable("resnet18", 10, fixed=True, d=10) == 8_867_442
    assert trainable("resnet50", 10) == 23_528_522
    table = savings.table(10).set_index(["network", "stem"])
    saved = table.fixed_d_K_saving.dropna().round(2)
    assert saved.to_dict() == {
        ("resnet18", 7): 20.70, ("resnet18", 3): 20.71, ("resnet50", 7): 4.45, ("resnet50", 3): 4.45,
    }  # fmt: skip
    assert round(table.fixed_saving["resnet18", 7], 3) == 0.046
    learned_at_ten = trainable("resnet18", 10, d=10)
    assert learned_at_ten - trainable("resnet18", 10, fixed=True, d=10) == 100, "of 2.3 million"


def test_shares_of_the_classifier_are_the_quoted_ones_but_for_shufflenet():
    share = savings.table().set_index(["network", "stem"]).share.round(2)
    assert (share["resnet50", 7], share["densenet169", 7]) == (8.01, 11.76)
    assert (share["shufflenet_v1", 3], share["shufflenet_v2", 3]) == (51.45, 44.94)
    assert round(100 * 960_000 / 1_826_555, 2) == 52.56, "the quoted one"


def shufflenet_v1_size(*, biases, stem_normalised, quarter_of_the_branch):
    """By hand from table 1 of Zhang et al., for 3 groups and 1000 classes, with what implementations vary."""
    total, c = 27 * 24 + 24 * biases + 48 * stem_normalised, 24
    for out, units in ((240, 4), (480, 8), (960, 4)):
        for unit in range(units):
            branch = out if unit else out - c
            mid = (branch if quarter_of_the_branch else out) // 4
            total += c * mid // (1 if c == 24 else 3) + 9 * mid + mid * branch // 3
            total += (2 + biases) * (mid + mid + branch)
            c = out
    return total + 960 * 1000 + 1000


def test_the_shufflenet_of_the_quoted_share_is_not_the_published_one_and_meets_its_total_up_to_one():
    as_published = shufflenet_v1_size(biases=0, stem_normalised=1, quarter_of_the_branch=False)
    assert trainable("shufflenet_v1", 1000) == as_published == 1_865_728
    quoted = shufflenet_v1_size(biases=1, stem_normalised=0, quarter_of_the_branch=True)
    assert quoted == 1_826_555 - 1 and quoted % 2 == 0
    assert shufflenet_v1_size(biases=1, stem_normalised=0, quarter_of_the_branch=False) != quoted


def test_the_table_has_a_row_for_each_network_and_stem_and_leaves_out_what_is_not_defined():
    table = savings.table(100)
    assert [*zip(table.network, table.stem, table.d, strict=True)] == [
        ("resnet18", 7, 512), ("resnet18", 3, 512), ("resnet50", 7, 2048), ("resnet50", 3, 2048),
        ("densenet169", 7, 1664), ("shufflenet_v1", 3, 960), ("shufflenet_v2", 3, 1024),
    ]  # fmt: skip
    for row in table.itertuples():
        options = {"network": row.network, "num_classes": 100, "stem": row.stem}
        assert (row.parameters, row.fixed) == (trainable(**options), trainable(**options, fixed=True))
        assert row.fixed_saving == pytest.approx(100 * 100 * row.d / row.parameters)
        assert (
            pd.isna(row.fixed_d_K) == pd.isna(row.fixed_d_K_saving) == (not row.network.startswith("resnet"))
        )
    assert table.fixed_d_K_saving[0] < savings.table(10).fixed_d_K_saving[0], "more classes, less to save"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trainable("resnet34", 10), "no network is called 'resnet34': choose one of resnet18, resnet50, .*"),
        (lambda: trainable("resnet18", 10, stem=5), "resnet18 has a stem of 7 or 3 pixels, got 5"),
        (lambda: trainable("shufflenet_v2", 10, stem=7), "shufflenet_v2 has a stem of 3 pixels, got 7"),
        (lambda: trainable("densenet169", 10, d=10), "the features of densenet169 have dimension 1664, got d=10"),
        (lambda: trainable("resnet18", 0), "num_classes must be a whole number of at least 1, got 0"),
        (lambda: trainable("resnet18", 10, d=2.0), "d must be a whole number of at least 1, got 2.0"),
        (lambda: savings.table(True), "num_classes must be a whole number of at least 1, got True"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
