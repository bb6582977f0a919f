"""Grid files: which runs a study is recorded at, as YAML lists whose product is taken."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from nclib import runs, studies
from nclib.studies.params import ParameterError, StudyParams, expand

FOLDER = runs.ROOT / "data" / "grids"
"""The grids that the published records come from, one file each."""


def load(path: Path, replaced: Mapping[str, object] | None = None) -> tuple[str, list[StudyParams]]:
    """The study and the runs of a grid file: `study:` a name, `grid:` a list of blocks of parameters.

    `replaced` stands in every block in place of what the file says of those parameters.

    Raises ParameterError naming the file for what is not a grid, an unknown study or parameter, or a bad
    value.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ParameterError(f"{path}: cannot be read as YAML ({type(error).__name__})") from None
    if (
        not isinstance(content, dict)
        or set(content) != {"study", "grid"}
        or not isinstance(content["grid"], list)
    ):
        raise ParameterError(f"{path}: a grid file has `study:` (a name) and `grid:` (a list of blocks)")
    try:
        blocks = [{**block, **(replaced or {})} for block in content["grid"]]
        return content["study"], expand(studies.get(content["study"]).Params, blocks)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None


def published() -> dict[str, tuple[str, list[StudyParams]]]:
    """Every grid of the repository by name."""
    return {path.stem: load(path) for path in sorted(FOLDER.glob("*.yml"))}


def cells(name: str) -> list[tuple[str, StudyParams]]:
    """The (study, params) of every run of one of the repository's grids."""
    study, group = load(FOLDER / f"{name}.yml")
    return [(study, params) for params in group]
