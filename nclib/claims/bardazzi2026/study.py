"""What the experiments of Bardazzi (2026) share: lengths, networks, and how a claim on them is put."""

from nclib.claims.verdict import Claim

EPOCHS = 300
"""Length of the judged runs of experiments 3 and 4; the study itself trains for 3000 (CKA: 2000)."""
LENGTHS = (500, 300)
"""Lengths of experiment 1: judged is the first of these that is recorded in full."""
WIDTHS = (2, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
ARCHITECTURES = ("resnet1d", "cnn1d")
CONFIGURATIONS = tuple((a, o) for a in ARCHITECTURES for o in ("adam", "sgd"))
DIMENSIONS = (2, 3, 5, 8, 9, 10, 12, 16)
DIMENSION_WIDTH = 32
"""Width of the network before the projector in the judged runs of experiment 3; the study has 64."""
NOISY = {"split": "train", "labels": "noisy", "layer": "features"}
WHOLE = {"split": "none", "labels": "none", "layer": "all"}
FRESH = {"split": "fresh", "labels": "clean", "layer": "features"}


def parameters(architecture: str, width: int) -> int:
    """Parameter count of the study's networks: 12 w^2 + 23 w (ResNet1D), 21 w^2 + 35 w (CNN1D)."""
    a, b = {"resnet1d": (12, 23), "cnn1d": (21, 35)}[architecture]
    return a * width**2 + b * width


def claim(
    name: str, statement: str, place: str, measure: str, predicate: str, judge, published: str = "", **more
) -> Claim:
    """A claim of this source; on MNIST-1D in the chapter on double descent unless `more` says otherwise."""
    common = {"source": "bardazzi2026", "study": "mnist1d", "page": "03_double_descent"}
    return Claim(
        id=f"bardazzi2026-{name}", statement=statement, place=place, measure=measure, predicate=predicate,
        judge=judge, published=published, **common | more,
    )  # fmt: skip
