"""What all studies' Params share: strict types, sensible ranges, and sweeps written as flat strings."""

import contextlib
import dataclasses
import difflib
import itertools
import math
import typing
from collections.abc import Iterable, Mapping


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type or out of range; the message is one line and names it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyParams:
    """A frozen, flat, keyword-only set of parameters that checks itself on construction."""

    seed: int = 0  # owns initialisation and sample order, through generators derived from it

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = coerce(field.name, field.type, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            choices = field.metadata.get("choices")
            if choices and value not in choices:
                raise ParameterError(
                    f"{field.name} must be one of {', '.join(choices)}, got {value!r}"
                    + _nearest(str(value), choices)
                )
            low = field.metadata.get("min", 0 if field.name == "seed" else None)
            if low is not None and not value >= low:  # also catches NaN
                raise ParameterError(f"{field.name} must be at least {low}, got {value}")
            above = field.metadata.get("above")
            if above is not None and not value > above:
                raise ParameterError(f"{field.name} must be above {above}, got {value}")
            high = field.metadata.get("max")
            if high is not None and not value <= high:
                raise ParameterError(f"{field.name} must be at most {high}, got {value}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ParameterError(f"{field.name} must be a finite number, got {value}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all parameters."""
        return tuple(field.name for field in dataclasses.fields(cls))


def param(default: object, **metadata: object) -> typing.Any:
    """A field with a default and its range: `choices`, `min`, `above`, `max`; `absent`: see `runs`."""
    return dataclasses.field(default=default, metadata=metadata)


def coerce(name: str, expected: type, value: object) -> object:
    """The value as the expected plain type: a float also from an int or YAML's string "1e-3"."""
    if expected is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not expected:
        raise ParameterError(f"{name}: expected {expected.__name__}, got {type(value).__name__} {value!r}")
    return value


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ParameterError for the first name that is not known, with the nearest one that is."""
    known = tuple(known)
    for name in given:
        if name not in known:
            raise ParameterError(
                f"unknown parameter {name!r}" + _nearest(name, known, f"; known: {', '.join(known)}")
            )


def _nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else otherwise


_TRUTH = {"true": True, "false": False}


def axis(text: str, kind: type = int) -> list:
    """The values of a sweep axis written flat: "2,4,8" or, for whole numbers, "0-4"; none twice."""
    values: list = []
    for part in str(text).split(","):
        part = part.strip()
        low, dash, high = part.partition("-")
        if kind is int and dash and low.isdigit() and high.isdigit() and int(low) <= int(high):
            values.extend(range(int(low), int(high) + 1))
            continue
        try:
            values.append(_TRUTH[part.lower()] if kind is bool else kind(part))
        except (KeyError, ValueError):
            example = '"true,false"' if kind is bool else '"2,4,8" or a range "0-4"'
            raise ParameterError(f"cannot read {part!r} in {text!r}: write values as {example}") from None
    if "" in values or len(set(values)) != len(values):
        raise ParameterError(f"an axis needs distinct values, got {text!r}")
    return values


def axes(given: Mapping[str, str], params: type[StudyParams]) -> dict[str, list]:
    """The values of each parameter that is written as an axis. Raises ParameterError naming the parameter."""
    check_names(given, params.names())
    types, values = params.__dataclass_fields__, {}
    for name, text in given.items():
        try:
            values[name] = axis(text, types[name].type)
        except ParameterError as error:
            raise ParameterError(f"{name}: {error}") from None
    return values


def product(params: type[StudyParams], **axes: object) -> list[StudyParams]:
    """One Params per element of the product of all axes; a value that is no list is the same for all."""
    check_names(axes, params.names())
    lists = [value if isinstance(value, list | tuple) else [value] for value in axes.values()]
    return [params(**dict(zip(axes, values, strict=True))) for values in itertools.product(*lists)]


def expand(params: type[StudyParams], grid: Iterable[Mapping[str, object]]) -> list[StudyParams]:
    """All Params of a grid: blocks, each the product of its axes; a run named twice is there once."""
    cells = [cell for block in grid for cell in product(params, **block)]
    return list(dict.fromkeys(cells))
