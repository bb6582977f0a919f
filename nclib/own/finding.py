"""Which `nn.Linear` of a network is its classifier: by name, or the one that the logits come from."""

from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
    returns (n, C) of other columns than it has rows, or where several have C rows, of other values than it gives: then
    it is not clear which one the logits come from.
    """
    linear = _linear(model)
    called, returned = _called(model, linear, args, kwargs)
    candidates = {name: m for name, m in linear.items() if any(m is c for c in called.modules)}
    if not candidates:
        raise ValueError(f"the forward pass calls no nn.Linear of the model, which has {_listed(linear)}")
    *_, (name, last) = candidates.items()
    if last is not called.modules[-1]:
        raise ValueError(
            "which nn.Linear is the classifier is not clear, as the one called last is not the last of the "
            f"model's modules: name it with classifier=..., one of {_listed(candidates)}"
        )
    logits = _logits(returned, called.last_input, {len(m.weight) for m in candidates.values()})
    if logits is None:
        return last
    # Columns alone: a temperature, log_softmax or a second branch may follow a classifier, and change its values.
    if logits.shape[1] != len(last.weight):
        raise ValueError(
            f"the model returns {logits.shape[1]} columns, and the nn.Linear called last, {_listed({name: last})}, has "
            f"{len(last.weight)} rows: name the one that gives the logits with classifier=..., one of "
            f"{_listed(candidates)}; where none does, measure features alone with nclib.measure_features"
        )
    # Several heads may be averaged (distilled DeiT), added (LoRA) or returned side by side.
    alike = {n: m for n, m in candidates.items() if len(m.weight) == len(last.weight)}
    if len(alike) > 1 and not _follows(logits, called.last_output):
        raise ValueError(
            "which nn.Linear is the classifier is not clear, as the model returns other logits than "
            f"{_listed({name: last})}, the one called last, gives: name it with classifier=..., one of "
            f"{_listed(alike)}; where none gives them alone, measure features alone with nclib.measure_features"
        )
    return last


def _linear(model: nn.Module) -> dict[str, nn.Linear]:
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if not linear and any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        raise ValueError(
            "the model is scripted, which does not show its classifier's input: measure it before torch.jit.script"
        )
    if not linear:
        raise ValueError(
            "the model has no nn.Linear: collapse is measured at the input of a linear classifier"
        )
    return linear


@dataclass
class _Calls:
    """What one forward pass calls, in order, and the last of these calls."""

    modules: list[nn.Module] = field(default_factory=list)
    last_input: object = None
    last_output: object = None


def _called(
    model: nn.Module, linear: Mapping[str, nn.Linear], args: tuple, kwargs: Mapping[str, object]
) -> tuple[_Calls, object]:
    """What one forward pass calls of these, and what it returns."""
    calls = _Calls()

    def end(module: nn.Module, given: tuple, output: object) -> None:
        if module is calls.modules[-1]:  # an nn.Linear may stand inside another one
            calls.last_input = given[0] if given else None
            # a copy, for what follows may work in place
            calls.last_output = output.clone() if isinstance(output, Tensor) else output

    with ExitStack() as hooks:
        for m in linear.values():
            hooks.callback(m.register_forward_pre_hook(lambda module, _: calls.modules.append(module)).remove)
            hooks.callback(m.register_forward_hook(end).remove)
        return calls, model(*args, **kwargs)


def _logits(returned: object, features: object, rows: Set[int]) -> Tensor | None:
    """Of what a model returns, the matrix that should be its logits: it, one of that name, or the first of several.

    Of several, the classifier's own input is none, and neither is one whose columns are no nn.Linear's number of rows.
    """
    get = returned.get if isinstance(returned, Mapping) else partial(getattr, returned)
    named = [returned, get("logits", None), get("out", None)]  # Hugging Face's outputs, torchvision's
    several = [
        entry
        for entry in (returned if isinstance(returned, list | tuple) else ())
        if _is_matrix(entry) and entry.shape[1] in rows and not _is_same(entry, features)
    ]
    return next(filter(_is_matrix, [*named, *several]), None)


def _is_matrix(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2


def _is_same(entry: Tensor, other: object) -> bool:
    return (
        _is_matrix(other)
        and entry.shape == other.shape
        and torch.equal(entry.cpu(), other.cpu().to(entry.dtype))
    )


def _follows(logits: Float[Tensor, "n K"], given: object) -> bool:
    """Whether logits are what was given, scaled and shifted by a number a row as log_softmax does, or softmax's.

    The order within a row does not say it: that of a sum of two trained heads is that of each. True where what was
    given is not finite.
    """
    if not _is_matrix(given) or given.shape != logits.shape:
        return False
    norm = torch.linalg.vector_norm
    eps = max(torch.finfo(t.dtype).eps for t in (logits, given) if t.is_floating_point())
    z, returned = (t.cpu().double() for t in (given, logits))
    centred = z - z.mean(1, keepdim=True)
    for other in (returned, returned.log()):
        Z = other - other.mean(1, keepdim=True)
        scale = (Z * centred).sum() / centred.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
        # 8 eps for numbers that are large beside their differences
        if scale >= 0 and norm(Z - scale * centred) <= 1e-3 * norm(Z) + 8 * eps * norm(other):
            return True
    return not bool(z.isfinite().all())


def _listed(modules: Mapping[str, nn.Linear]) -> str:
    """Their names, the last ten where there are more: a classifier stands at the end."""
    # The name of a model that is itself an nn.Linear is empty.
    names = [name or "the model itself" for name in modules]
    return ("..., " if len(names) > 10 else "") + ", ".join(names[-10:])
