"""A network at rest, and the features that it hands its linear classifier."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.modes import in_eval_mode, in_full_precision


class Tap:
    """Features of a network batch by batch: what its classifier is given in a forward pass.

    Made by `tapped`, which removes the hook again.
    """

    def __init__(self, model: nn.Module, classifier: nn.Linear) -> None:
        self._model = model
        self._classifier = classifier
        self._taken: list[Tensor] = []

    def take(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        """The forward pre-hook: it keeps a copy of the classifier's input and changes nothing."""
        # a copy, for the model may change the features in place once the classifier has seen them
        self._taken.append((args[0] if args else kwargs["input"]).detach().clone())

    def features(self, /, *args: object, **kwargs: object) -> Float[Tensor, "n d"]:
        """The classifier's input for one batch, which the model is called with.

        Raises ValueError when the classifier is not called exactly once, or is given anything but (n, d).
        """
        self._taken.clear()
        self._model(*args, **kwargs)
        if len(self._taken) != 1:
            raise ValueError(
                f"the forward pass calls the classifier {len(self._taken)} times: its input is the features only "
                "where it is called once"
            )
        H = self._taken.pop()
        if H.ndim != 2:
            raise ValueError(
                f"the classifier is given features of shape {tuple(H.shape)}, not (n, d): pool them, or choose one "
                "position, before the classifier"
            )
        return H

    def check(self, /, *args: object, **kwargs: object) -> None:
        """One batch through the model, to see that the classifier gives W h + b, up to rounding.

        Raises ValueError as `features` does, and when it gives anything else, as a layer of cosines does.
        """
        given: list[object] = []
        # a copy, for what follows the classifier may work in place too
        handle = self._classifier.register_forward_hook(
            lambda _, __, output: given.append(output.clone() if isinstance(output, Tensor) else output)
        )
        try:
            H = self.features(*args, **kwargs)
        finally:
            handle.remove()
        if not given:
            raise ValueError(
                "the classifier is called and its output is not seen: call it as a module, which returns the logits"
            )
        if not _is_affine(self._classifier, H, given.pop()):
            raise ValueError(
                f"the classifier, a {type(self._classifier).__name__}, gives other logits than W h + b, so that error, "
                "loss and all of its metrics would not be the model's: measure features alone with "
                "nclib.measure_features(features, labels)"
            )


def _is_affine(classifier: nn.Linear, H: Float[Tensor, "n d"], output: object) -> bool:
    """Whether |output - (W h + b)| <= max(1e-3, 8 eps) |W h + b| in Frobenius norm, or W h + b is not finite.

    Computed as an nn.Linear does in the weights' precision, so that it agrees bit for bit, or nearly, in bfloat16
    too. What is allowed is for classes that take other steps to the same, and 8 eps | |H| |W|^T | in float32 besides,
    for sums whose terms cancel.
    """
    W, b = classifier.weight, classifier.bias
    if not (isinstance(output, Tensor) and W.is_floating_point() and output.is_floating_point()):
        return False
    if output.shape != (len(H), len(W)) or H.shape[1:] != W.shape[1:]:
        return False
    linear, norm = nn.functional.linear, torch.linalg.vector_norm
    expected = linear(H.to(W), W, None if b is None else b.to(W)).cpu().double()
    eps = max(torch.finfo(dtype).eps for dtype in (H.dtype, W.dtype, output.dtype))
    error = norm(output.cpu().double() - expected)
    terms = norm(linear(H.to(W).float().abs(), W.float().abs()).cpu().double())
    bound = max(1e-3, 8 * eps) * norm(expected) + 8 * torch.finfo(torch.float32).eps * terms
    return bool(error <= bound) or not bool(expected.isfinite().all())


@contextmanager
def tapped(model: nn.Module, classifier: nn.Linear) -> Iterator[Tap]:
    """A `Tap` of the classifier's input; the hook is removed on leaving, after an error too."""
    tap = Tap(model, classifier)
    handle = classifier.register_forward_pre_hook(tap.take, with_kwargs=True)
    try:
        yield tap
    finally:
        handle.remove()


def check_names(model: nn.Module, kwargs: Mapping[str, object]) -> None:
    """ValueError for a mapping of inputs with names that the model's forward does not take."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module  # which is given whatever these are
    taken = signature(model.forward).parameters.values()
    names = [p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if any(p.kind is p.VAR_KEYWORD for p in taken) or kwargs.keys() <= set(names):
        return
    raise ValueError(
        f"the batch has {', '.join(map(str, kwargs))}, and the model takes {', '.join(names)}: say what is what with "
        "unpack=lambda batch: (inputs, labels)"
    )


@contextmanager
def at_rest(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """The model in eval mode on a device, without gradients, autocast and TF32; all is as it was on leaving.

    That holds for the mode of every submodule. The device defaults to that of the model's first parameter or
    buffer. Raises ValueError for a device that is not there, or that a model spread over several is to go to.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model must be an nn.Module, got a {type(model).__name__}")
    homes = [t.device for t in (*model.parameters(), *model.buffers())] or [torch.device("cpu")]
    if torch.device("meta") in homes:
        raise ValueError(
            "the model is on the meta device, where it holds no values: load its weights first, and do not offload them"
        )
    if device is not None and len(set(homes)) > 1:
        raise ValueError("the model is spread over several devices: measure it there, without device=...")
    try:
        target = _moved(model, device) if device is not None else homes[0]
        plain = torch.autocast(target.type, enabled=False)
        with in_eval_mode(model), in_full_precision(), torch.no_grad(), plain:
            yield target
    finally:
        if device is not None:
            model.to(homes[0])


def _moved(model: nn.Module, device: torch.device | str) -> torch.device:
    try:
        target = torch.device(device)
        if target.type == "meta":
            raise RuntimeError("it holds no values")
        model.to(target)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        why = str(error).partition("\n")[0]
        raise ValueError(f"the model cannot be measured on {device}: {why}") from error
    return target
