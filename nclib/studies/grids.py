"""Grid files: which runs a study is recorded at, as YAML lists whose product is taken."""

from pathlib import Path

import yaml

from nclib import runs, studies
from nclib.studies.params import ParameterError, StudyParams, expand

FOLDER = runs.ROOT / "data" / "grids"
"""The grids that the published records come from, one file each."""


def load(path: Path) -> tuple[str, list[StudyParams]]:
    """The study and the runs of a grid file: `study:` a name, `grid:` a list of blocks of parameters.

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
        return content["study"], expand(studies.get(content["study"]).Params, content["grid"])
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None


def published() -> dict[str, tuple[str, list[StudyParams]]]:
    """Every grid of the repository by name."""
    return {path.stem: load(path) for path in sorted(FOLDER.glob("*.yml"))}


def cells(name: str) -> list[tuple[str, StudyParams]]:
    """The (study, params) of every run of one of the repository's grids."""
    study, group = load(FOLDER / f"{name}.yml")
    return [(study, params) for params in group]
