"""nclib.measure_features: what it accepts, what `classes` selects, and what it refuses in which words."""

import re

import numpy as np
import pytest
import torch
from asserts import assert_close, assert_far_from_zero, assert_same, assert_vanishes
from samplers import class_means, classifier, clusters, collapsed, normal, unbalanced

from nclib import measure_features


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_dtype_of_torch_is_computed_in_float64(dtype):
    H, y = clusters(4, 6)
    H, W, b = (tensor.to(dtype) for tensor in (H, *classifier(4, 6)))
    expected = measure_features(H.double(), y, W.double(), b.double())
    assert_same(measure_features(H, y, W, b), expected, 1e-13)
    assert_same(measure_features(H, y.to(torch.uint8), W.double(), b), expected, 1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("integers", [np.int64, np.int32, np.uint8])
def test_numpy_gives_what_torch_gives(dtype, integers):
    H, y = clusters(4, 6)
    W, b = classifier(4, 6)
    arrays = [tensor.numpy().astype(dtype) for tensor in (H, W, b)]
    expected = measure_features(*(torch.tensor(a) for a in (arrays[0], y.numpy(), *arrays[1:])))
    assert_same(measure_features(arrays[0], y.numpy().astype(integers), *arrays[1:]), expected, 1e-14)


def test_memory_layout_does_not_matter():
    H, y = clusters(4, 6)
    W, b = classifier(4, 6)
    expected = measure_features(H, y, W, b)
    wide = torch.zeros(len(H), 12).double()
    wide[:, ::2] = H
    strided = wide[:, ::2]
    columns, labels_strided = H.T.contiguous().T, torch.stack([y, y], 1)[:, 0]
    assert not strided.is_contiguous() and not columns.is_contiguous() and not labels_strided.is_contiguous()
    assert_same(measure_features(strided, labels_strided, W.T.contiguous().T, b), expected)
    assert_same(measure_features(columns, y, W, b), expected)
    array = H.numpy()
    assert_same(measure_features(np.asfortranarray(array), y.numpy(), W.numpy(), b.numpy()), expected)
    backwards = array[::-1].copy()[::-1]
    read_only = array.copy()
    read_only.flags.writeable = False
    for awkward in (backwards, read_only):
        assert_same(measure_features(awkward, y.numpy(), W.numpy(), b.numpy()), expected)


def test_input_is_left_as_it_was_and_needs_no_detaching():
    H, y = clusters(4, 6)
    W, b = (torch.nn.Parameter(tensor) for tensor in classifier(4, 6))
    kept = [tensor.detach().clone() for tensor in (H, y, W, b)]
    measure_features(H.requires_grad_(), y, W, b)
    for tensor, before in zip((H, y, W, b), kept, strict=True):
        assert torch.equal(tensor.detach(), before) and getattr(tensor, "grad", None) is None


# Classes


@pytest.mark.parametrize("classes", [[1, 3, 4], [4, 0, 2], (3, 0), np.array([2, 5])])
def test_classes_restrict_samples_and_classifier_rows(classes):
    H, y = unbalanced(6, 7)
    W, b = classifier(6, 7)
    chosen = [int(c) for c in classes]
    keep = torch.isin(y, torch.tensor(chosen))
    renumbered = torch.tensor([chosen.index(int(label)) for label in y[keep]])
    expected = measure_features(H[keep], renumbered, W[chosen], b[chosen])
    assert_same(measure_features(H, y, W, b, classes=classes), expected)
    assert_same(measure_features(H.numpy(), y.numpy(), W.numpy(), b.numpy(), classes=classes), expected)
    without = measure_features(H[keep], renumbered)
    assert_same(measure_features(H, y, classes=classes), without)


def test_all_classes_in_another_order_are_the_same_classes():
    sample, head = unbalanced(4, 6), classifier(4, 6)
    assert_same(measure_features(*sample, *head, classes=[2, 0, 3, 1]), measure_features(*sample, *head))


def test_collapse_with_classes_restricted_keeps_the_rest_out():
    H, y = clusters(4, 6)
    H = torch.where((y < 2)[:, None], class_means(4, 6)[y], H)
    assert_vanishes(measure_features(H, y, classes=[0, 1])["nc1_trace_ratio"])
    assert_far_from_zero(measure_features(H, y, classes=[1, 2])["nc1_trace_ratio"], 0.01)
    assert_vanishes(measure_features(*collapsed(4, 6), classes=[1, 2])["nc1_trace_ratio"])


def test_a_thousand_classes_are_measured():
    K, d = 1000, 20
    y = torch.arange(3 * K) % K
    H = class_means(K, d)[y] + 0.1 * normal(3 * K, d, seed=1)
    W, b = classifier(K, d)
    values = measure_features(H, y, W, b)
    mu = H.view(3, K, d).mean(0)
    M = mu - mu.mean(0)
    Sigma_W = (H - mu[y]).T @ (H - mu[y]) / (3 * K)
    assert_close(values["nc1_pinv"], torch.trace(torch.linalg.solve(M.T @ M / K, Sigma_W)) / K)
    assert_close(values["ncc_accuracy"], (torch.cdist(H, mu).argmin(1) == y).double().mean())
    s = (H - mu[y]).square().sum(1).view(3, K).mean(0)
    pairs = (s[:, None] + s) / (2 * torch.cdist(mu, mu).square())
    assert_close(values["cdnv"], pairs[~torch.eye(K, dtype=bool)].mean(), 1e-7)
    assert_close(
        values["nc4_mismatch"], (torch.cdist(H, mu).argmin(1) != (H @ W.T + b).argmax(1)).double().mean()
    )


# Refusals


def refused(message, *arguments, **options):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        measure_features(*arguments, **options)


def test_a_missing_class_is_refused_by_name():
    H, y = clusters(4, 6)
    remedy = ": give every class, or restrict with classes=[...]"
    refused("no sample of class 4, 5" + remedy, H, y, num_classes=6)
    refused("no sample of class 2" + remedy, H[y != 2], y[y != 2], classifier(4, 6).W)
    refused("no sample of class 2" + remedy, H[y != 2], y[y != 2], num_classes=4, classes=[3, 2])
    assert measure_features(H[y != 2], y[y != 2], classifier(4, 6).W, classes=[0, 1, 3])["sigma_b_rank"] == 2


@pytest.mark.parametrize("label", [-1, -100, 4, 255])
def test_a_label_out_of_range_is_refused_and_not_wrapped_around(label):
    H, y = clusters(4, 6)
    y[5] = label
    message = f"label {label} is out of range: labels must lie in [0, 4)"
    refused(message, H, y, classifier(4, 6).W)
    refused(message, H, y, num_classes=4, classes=[0, 1])


def test_mismatched_shapes_are_refused():
    H, y = clusters(4, 6)
    W, b = classifier(4, 6)
    refused("features must be (N, d) and labels (N,), got (48, 6) and (47,)", H, y[:-1])
    refused("features must be (N, d) and labels (N,), got (48, 3, 2) and (48,)", H.view(48, 3, 2), y)
    refused("features must be (N, d) and labels (N,), got (48, 6) and (48, 1)", H, y[:, None])
    refused("weight must be (K, d) = (4, 6), got (4, 5)", H, y, W[:, :5])
    refused("weight has 5 rows for 4 classes: they must agree", H, y, classifier(5, 6).W, num_classes=4)
    refused("bias has 3 entries for 4 classes: they must agree", H, y, W, b[:3])
    refused("bias must be (K,) = (4,), got (4, 1)", H, y, W, b[:, None])
    refused("a bias was given without a weight: pass both, or neither", H, y, bias=b)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(value):
    H, y = clusters(4, 6)
    W, b = classifier(4, 6)
    spoilt = H.clone()
    spoilt[7, 3] = value
    message = "features contain NaN or infinite values (first in sample 7): remove or repair them first"
    refused(message, spoilt, y)
    refused(message, spoilt.half(), y)
    refused("weight contains NaN or infinite values", H, y, W.index_fill(1, torch.tensor([2]), value), b)
    refused("bias contains NaN or infinite values", H, y, W, b.index_fill(0, torch.tensor([2]), value))


def test_wrong_types_are_refused():
    H, y = clusters(4, 6)
    refused("labels must be integers, got torch.float64", H, y.double())
    refused("labels must be integers, got torch.bool", H, y > 1)
    refused("features must be floating point, got torch.int64", H.long(), y)
    refused("weight must be floating point, got torch.int64", H, y, torch.ones(4, 6).long())


def test_too_little_is_refused():
    H, y = clusters(4, 6)
    refused("there are no samples: features and labels are empty", H[:0], y[:0])
    refused("neural collapse needs at least two classes, got 1", H, torch.zeros_like(y))
    refused("neural collapse needs at least two classes, got 1", H, y, classes=[2])
    refused("neural collapse needs at least two classes, got 0", H, y, classes=[])


@pytest.mark.parametrize("classes", [[0, 0, 1], [0, 4], [-1, 2]])
def test_classes_that_are_repeated_or_unknown_are_refused(classes):
    refused(f"classes must be distinct and lie in [0, 4), got {classes}", *clusters(4, 6), classes=classes)
