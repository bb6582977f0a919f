"""The linear classifier inside any network, and the features that the network hands it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.modes import in_eval_mode, in_full_precision


def classifier_named(model: nn.Module, named: nn.Module | str) -> nn.Linear:
    """The `nn.Linear` of the model that is meant by a module of it, or by its dotted name.

    Raises ValueError, with the names to choose from, when it is none.
    """
    linear = _linear(model)
    chosen = linear.get(named) if isinstance(named, str) else named
    if not any(chosen is m for m in linear.values()):
        meant = repr(named) if isinstance(named, str) else f"the given {type(named).__name__}"
        raise ValueError(f"{meant} is no nn.Linear of the model, which has {_listed(linear)}")
    return chosen


def last_classifier(model: nn.Module, /, *args: object, **kwargs: object) -> nn.Linear:
    """The last `nn.Linear` of `model.modules()` that a forward pass with these arguments calls.

    Raises ValueError, with the names to choose from, when the forward pass calls none, calls another one last, or
    returns (n, C) of other columns than it has rows: then it is not clear which one the logits come from.
    """
    linear = _linear(model)
    called, returned = _called(model, linear, args, kwargs)
    candidates = {name: m for name, m in linear.items() if any(m is c for c in called)}
    if not candidates:
        raise ValueError(f"the forward pass calls no nn.Linear of the model, which has {_listed(linear)}")
    *_, (name, last) = candidates.items()
    if last is not called[-1]:
        raise ValueError(
            "which nn.Linear is the classifier is not clear, as the one called last is not the last of the "
            f"model's modules: name it with classifier=..., one of {_listed(candidates)}"
        )
    # Columns alone: a temperature, log_softmax or a second branch may follow a classifier, and change its values.
    logits = getattr(returned, "logits", returned)  # Hugging Face's outputs
    if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] != len(last.weight):
        raise ValueError(
            f"the model returns {logits.shape[1]} columns, and the nn.Linear called last, {_listed({name: last})}, has "
            f"{len(last.weight)} rows: name the one that gives the logits with classifier=..., one of "
            f"{_listed(candidates)}; where none does, measure features alone with nclib.measure_features"
        )
    return last


def _linear(model: nn.Module) -> dict[str, nn.Linear]:
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if not linear:
        raise ValueError(
            "the model has no nn.Linear: collapse is measured at the input of a linear classifier"
        )
    return linear


def _called(
    model: nn.Module, linear: Mapping[str, nn.Linear], args: tuple, kwargs: Mapping[str, object]
) -> tuple[list[nn.Module], object]:
    """Those that one forward pass calls, in the order of the calls, and what it returns."""
    called: list[nn.Module] = []
    handles = [m.register_forward_pre_hook(lambda module, _: called.append(module)) for m in linear.values()]
    try:
        returned = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return called, returned


def _listed(modules: Mapping[str, nn.Linear]) -> str:
    """Their names, the last ten where there are more: a classifier stands at the end."""
    # The name of a model that is itself an nn.Linear is empty.
    names = [name or "the model itself" for name in modules]
    return ("..., " if len(names) > 10 else "") + ", ".join(names[-10:])


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


@contextmanager
def at_rest(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """The model in eval mode on a device, without gradients, autocast and TF32; all is as it was on leaving.

    That holds for the mode of every submodule. The device defaults to that of the model's first parameter or
    buffer. Raises ValueError for a device that is not there, or that a model spread over several is to go to.
    """
    homes = [t.device for t in (*model.parameters(), *model.buffers())] or [torch.device("cpu")]
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
