"""Strict parameters: a notebook's variables, checked by name and type, become the runs that they ask for."""

import itertools
from collections.abc import Mapping
from types import ModuleType

from nclib import studies
from nclib.studies.params import ParameterError, StudyParams, axis, check_names, coerce, expand

_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}


def check(namespace: Mapping[str, object], **types: type) -> None:
    """Check a notebook's parameters by name and type, for notebooks that train nothing.

    Raises ParameterError naming a variable that is none of `types` (and the nearest that is), or has another type.
    """
    given = _variables(namespace)
    check_names(given, types)
    for name, kind in types.items():
        coerce(name, kind, given[name])


def sweep(namespace: Mapping[str, object], study: str, **axes: str) -> list[StudyParams]:
    """The runs that a notebook's parameters ask for, checked before anything is trained.

    Every variable of the notebook must be a parameter of the study, or one of `axes` (variable to parameter), whose
    value is a flat string such as "2,4,8" or "0-4"; the product of all axes is returned. An axis may bind several
    parameters at once: `pairs="width:width_b"` reads "32:32,8:64" as two pairs. In a notebook of several sweeps
    `sizes=""` says that the variable `sizes` belongs to another one. Raises ParameterError naming an unknown
    variable and the nearest known one, a wrong type, or a value out of range.
    """
    return resolve(_variables(namespace), study, axes)


def resolve(given: Mapping[str, object], study: str, axes: Mapping[str, str]) -> list[StudyParams]:
    """`sweep` on plain name-value pairs."""
    params = studies.get(study).Params
    types = params.__dataclass_fields__
    check_names(given, (*axes, *params.names()))
    values: dict[str, object] = {}
    joint: list[list[dict[str, object]]] = []
    for name, value in given.items():
        if name not in axes:
            values[name] = coerce(name, types[name].type, value)
            continue
        coerce(name, str, value)
        if not axes[name]:
            continue
        fields = axes[name].split(":")
        try:
            if len(fields) > 1:
                joint.append(_joint(value, {field: types[field].type for field in fields}))
            elif fields[0] in given and fields[0] != name:
                raise ParameterError(
                    f"{fields[0]} is a variable of its own: it cannot be the axis {name}, too"
                )
            else:
                values[fields[0]] = axis(value, types[fields[0]].type)
        except ParameterError as error:
            raise ParameterError(f"{name}: {error}") from None
    blocks = ({k: v for part in chosen for k, v in part.items()} for chosen in itertools.product(*joint))
    return expand(params, [values | block for block in blocks])


def _joint(text: str, fields: Mapping[str, type]) -> list[dict[str, object]]:
    """The values of an axis that binds several parameters: "32:32,8:64" for `width:width_b`."""
    chosen = []
    for part in text.split(","):
        parts = part.split(":")
        if len(parts) != len(fields):
            raise ParameterError(
                f"cannot read {part.strip()!r} in {text!r}: write each as {':'.join(fields)}, with commas between"
            )
        chosen.append({k: axis(v, kind)[0] for (k, kind), v in zip(fields.items(), parts, strict=True)})
    return chosen


def _variables(namespace: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in _IPYTHON
        and not isinstance(value, ModuleType)
        and not callable(value)
    }
