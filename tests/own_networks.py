"""Networks and data of nobody's in particular, for the tests of nclib.own: float64, seeded."""

import warnings

import pytest
import torch
from samplers import generator, normal
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nclib import measure_model

LABELS = torch.tensor([3, 7, 11])
"""What the three rows of the classifier stand for."""


class ConvNet(nn.Module):
    """A small network in torchvision's style: its logits come from `fc`, and nothing gives its features."""

    def __init__(self, d=5, K=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, d, 3, padding=1), nn.BatchNorm2d(d), nn.ReLU())
        self.attention = nn.Linear(d, d)  # a linear layer that is no classifier
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(d, K)

    def body(self, x):
        h = self.stem(x).mean((2, 3))
        return self.dropout(h * self.attention(h).sigmoid())

    def forward(self, x):
        return self.fc(self.body(x))


class CosineHead(nn.Linear):
    """An nn.Linear by its class alone: it gives scaled cosines."""

    def forward(self, input):
        return 10 * F.linear(F.normalize(input), F.normalize(self.weight))


class ScaledHead(nn.Linear):
    """W h + b, of which the model is given half."""

    def forward(self, input):
        return super().forward(input) / 2


class LowRankHead(nn.Linear):
    """W h + b and a low-rank update, which its weight does not hold."""

    def forward(self, input):
        return super().forward(input) + 0.1 * input[:, :1]


class TwoPartHead(nn.Linear):
    """It gives more than a tensor."""

    def forward(self, input):
        return super().forward(input), input


class OtherSteps(nn.Linear):
    """W h + b in other steps than those of nn.Linear."""

    def forward(self, input):
        head, tail = (input[:, part] @ self.weight[:, part].mT for part in (slice(2), slice(2, None)))
        return self.bias + tail + head


def trained_a_little(d=5, kind=ConvNet):
    """A network in train mode whose running statistics are those of no batch."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind(d).double()
        for scale in (1.0, 2.0, 0.5):
            model(scale * images()[0] + 1)
    return model


def scripted(model):
    """The model as torch.jit.script makes it, which is deprecated and in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(model)


def images(N=61):
    """N images 6 x 6, and labels 3, 7, 11 of unequal counts, shuffled."""
    place = torch.arange(N) % 5 % 3
    place = place[torch.randperm(N, generator=generator(4))]
    return normal(N, 1, 6, 6, seed=2) + 0.8 * normal(3, 1, 6, 6, seed=3)[place], LABELS[place]


def loader(x=None, y=None, **options):
    """A shuffled DataLoader with an uneven last batch, the order drawn from its own generator."""
    x, y = images() if x is None else (x, y)
    options = {"batch_size": 8, "shuffle": True, "generator": generator(5)} | options
    return DataLoader(TensorDataset(x, y), **options)


def features_in_eval_mode(model, x):
    """The classifier's input without any hook; the model is left as it was."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        H = model.body(x)
    model.train(was_training)
    return H


def measure_or_fail(model, fails):
    """A measurement that ends well, or, with labels that the classifier has no rows for, after its passes."""
    if fails:
        with pytest.raises(ValueError, match="is none of"):
            measure_model(model, loader())
    else:
        measure_model(model, loader(), classes=LABELS.tolist())
