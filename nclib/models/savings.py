"""What a classifier that is fixed in advance saves: parameters of published networks, counted from their layers."""

from functools import partial

import pandas as pd

COLOURS = 3
"""Channels of an image."""
Body = tuple[int, int]
"""Parameters of a network below its classifier, and the dimension d of the features that it gives."""


def _convolution(kernel: int, inputs: int, outputs: int, groups: int = 1) -> int:
    """Parameters of a square convolution without bias and of the batch normalisation that follows it."""
    return kernel**2 * (inputs // groups) * outputs + 2 * outputs


def _resnet(blocks: tuple[int, ...], expansion: int, stem: int, d: int | None = None) -> Body:
    """He et al. (2016), table 1; blocks of two 3x3 convolutions where the expansion is 1, else bottlenecks."""
    count, c = _convolution(stem, COLOURS, 64), 64
    widths = [w for w, n in zip((64, 128, 256, 512), blocks, strict=True) for _ in range(n)]
    outputs = [expansion * w for w in widths]
    outputs[-1] = outputs[-1] if d is None else d
    for w, out in zip(widths, outputs, strict=True):
        if expansion == 1:
            count += _convolution(3, c, w) + _convolution(3, w, out)
        else:
            count += _convolution(1, c, w) + _convolution(3, w, w) + _convolution(1, w, out)
        count += _convolution(1, c, out) if c != out else 0
        c = out
    return count, c


def _densenet(layers: tuple[int, ...], growth: int, stem: int) -> Body:
    """Huang et al. (2017), table 1: bottlenecks of 4 `growth` channels; a transition halves the channels."""
    count, c = _convolution(stem, COLOURS, 2 * growth), 2 * growth
    for block, n in enumerate(layers):
        for _ in range(n):
            # here normalisations come first: the layer's own of c, then that of the bottleneck
            count += 2 * c + _convolution(1, c, 4 * growth) + 9 * 4 * growth * growth
            c += growth
        count += 2 * c
        if block < len(layers) - 1:
            count, c = count + c * (c // 2), c // 2
    return count, c


def _shufflenet_v1(groups: int, outputs: tuple[int, ...], stem: int) -> Body:
    """Zhang et al. (2018), table 1: a unit's bottleneck has a quarter of the channels that the unit gives."""
    count, c = _convolution(stem, COLOURS, 24), 24
    for out, units in zip(outputs, (4, 8, 4), strict=True):
        for unit in range(units):
            # the first unit of a stage keeps its input beside the branch
            branch = out if unit else out - c
            count += _convolution(1, c, out // 4, 1 if c == 24 else groups)
            count += _convolution(3, out // 4, out // 4, out // 4) + _convolution(1, out // 4, branch, groups)
            c = out
    return count, c


def _shufflenet_v2(outputs: tuple[int, ...], stem: int) -> Body:
    """Ma et al. (2018), table 5: units work on half of the channels; a 1x1 convolution gives the features."""
    count, c = _convolution(stem, COLOURS, 24), 24
    *stages, d = outputs
    for out, units in zip(stages, (4, 8, 4), strict=True):
        half = out // 2
        # beside the first unit, which halves the side
        count += _convolution(3, c, c, c) + _convolution(1, c, half)
        for unit in range(units):
            count += _convolution(1, half if unit else c, half)
            count += _convolution(3, half, half, half) + _convolution(1, half, half)
        c = out
    return count + _convolution(1, c, d), d


_NETWORKS = {
    "resnet18": (partial(_resnet, (2, 2, 2, 2), 1), (7, 3)),
    "resnet50": (partial(_resnet, (3, 4, 6, 3), 4), (7, 3)),
    "densenet169": (partial(_densenet, (6, 12, 32, 32), 32), (7,)),
    "shufflenet_v1": (partial(_shufflenet_v1, 3, (240, 480, 960)), (3,)),
    "shufflenet_v2": (partial(_shufflenet_v2, (116, 232, 464, 1024)), (3,)),
}
"""How each network is counted, and the kernels that its stem may have, the published one first."""
_RESIDUAL = ("resnet18", "resnet50")
"""Networks whose last block can be asked for features of any dimension."""


def _body(network: str, stem: int | None, d: int | None) -> Body:
    if network not in _NETWORKS:
        raise ValueError(f"no network is called {network!r}: choose one of {', '.join(_NETWORKS)}")
    count, stems = _NETWORKS[network]
    stem = stems[0] if stem is None else stem
    if stem not in stems:
        raise ValueError(f"{network} has a stem of {' or '.join(map(str, stems))} pixels, got {stem!r}")
    if d is None:
        return count(stem)
    if network not in _RESIDUAL:
        raise ValueError(f"the features of {network} have dimension {count(stem)[1]}, got d={d!r}")
    _check_size("d", d)
    return count(stem, d)


def _check_size(name: str, size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")


def trainable(
    network: str, num_classes: int, *, stem: int | None = None, fixed: bool = False, d: int | None = None
) -> int:
    r"""How many parameters of a network are trained: body + $Kd$ weights of the classifier + $K$ biases.

    network: "resnet18", "resnet50", "densenet169", or one of the ShuffleNets of 1.0x width, "shufflenet_v1" (with 3
    groups) and "shufflenet_v2". Images have 3 channels, convolutions no bias, batch normalisation has scale and shift.

    stem: kernel of the first convolution. ResNets have 7, or 3 for small images; the others have one.

    fixed: leaves out the classifier's $Kd$ weights, as where they are a simplex ETF; its bias is trained all the same.

    d: the dimension of the features, which Zhu et al. (2021) set to $K$ in residual networks. The last block's last
    convolution has d outputs, and so has its new shortcut, a 1x1 convolution with batch normalisation: in ResNet-18
    the second 3x3 convolution, in ResNet-50 the 1x1 convolution after the bottleneck, whose 512 channels stay. The
    other networks end otherwise, and their d cannot be chosen.

    Source: the tables of the papers. For ResNets, DenseNet and ShuffleNet V2 the totals are torchvision's.
    ShuffleNet V1 as published has 1,865,728 parameters at $K = 1000$, 51.45 % of them weights of the classifier. The
    often quoted 52.56 % of 1,826,555 is met up to one parameter by a variant: biases in all convolutions, no
    normalisation after the stem, and bottlenecks with a quarter of a branch's outputs instead of the unit's make
    1,826,554. All its layers have even counts, so that the last one is none of theirs; a learned scale would be one.

    Raises ValueError for an unknown network, a stem that it does not have, a d that cannot be chosen, and sizes
    below 1.
    """
    _check_size("num_classes", num_classes)
    count, dimension = _body(network, stem, d)
    return count + (0 if fixed else num_classes * dimension) + num_classes


def table(num_classes: int = 10, *, share_classes: int = 1000) -> pd.DataFrame:
    r"""What a fixed classifier saves, one row a network and stem.

    Columns: network; stem, the kernel of its first convolution; d; `parameters`, all of them with a learned
    classifier; `fixed`, those that are trained beside a fixed one; `fixed_saving`, what that saves of `parameters`
    in percent; `fixed_d_K` and `fixed_d_K_saving`, the same with $d = K$, missing where d cannot be chosen;
    `share`, the weights of a learned classifier of `share_classes` classes in percent of all parameters.
    Raises ValueError as `trainable` does.
    """
    rows = []
    for name, (_, stems) in _NETWORKS.items():
        for stem in stems:
            _, d = _body(name, stem, None)
            learned = trainable(name, num_classes, stem=stem)
            fixed = trainable(name, num_classes, stem=stem, fixed=True)
            row = {"network": name, "stem": stem, "d": d, "parameters": learned, "fixed": fixed}
            row["fixed_saving"] = 100 * (1 - fixed / learned)
            if name in _RESIDUAL:
                row["fixed_d_K"] = trainable(name, num_classes, stem=stem, fixed=True, d=num_classes)
                row["fixed_d_K_saving"] = 100 * (1 - row["fixed_d_K"] / learned)
            row["share"] = 100 * share_classes * d / trainable(name, share_classes, stem=stem)
            rows.append(row)
    return pd.DataFrame(rows).astype({"fixed_d_K": "Int64"})
