"""Grid files: which runs a study is recorded at, as YAML lists whose product is taken."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import yaml

from nclib import runs, studies
from nclib.studies.params import ParameterError, StudyParams, axes, expand

FOLDER = runs.ROOT / "data" / "grids"
"""The grids that the published records come from, one file each."""


def load(path: Path, replaced: Mapping[str, str] | None = None) -> tuple[str, list[StudyParams]]:
    """The study and the runs of a grid file: `study:` a name, `grid:` a list of blocks of parameters.

    `replaced` holds flat axes ("2,4,8", "0-4") that stand in every block in place of what the file says of
    those parameters. Raises ParameterError naming the file for what is not a grid or names no run, an unknown
    study or parameter, or a bad value.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParameterError(
            f"{path} cannot be read: there is no such file; grids are in data/grids"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParameterError(f"{path}: cannot be read as YAML ({type(error).__name__})") from None
    if not _is_grid(content):
        raise ParameterError(f"{path}: a grid file has `study:` (a name) and `grid:` (a list of blocks)")
    try:
        params = studies.get(content["study"]).Params
        instead = axes(replaced or {}, params)
        found = expand(params, [block | instead for block in content["grid"]])
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None
    if not found:
        raise ParameterError(f"{path}: names no run; each block gives every parameter at least one value")
    return content["study"], found


def _is_grid(content: object) -> bool:
    return (
        isinstance(content, dict)
        and content.keys() == {"study", "grid"}
        and isinstance(content["study"], str)
        and isinstance(content["grid"], list)
        and all(
            isinstance(block, dict) and all(isinstance(n, str) for n in block) for block in content["grid"]
        )
    )


def published() -> dict[str, tuple[str, list[StudyParams]]]:
    """Every grid of the repository by name."""
    return {path.stem: load(path) for path in sorted(FOLDER.glob("*.yml"))}


def cells(name: str) -> list[tuple[str, StudyParams]]:
    """The (study, params) of every run of one of the repository's grids."""
    study, group = load(FOLDER / f"{name}.yml")
    return [(study, params) for params in group]


def coverage(*studies_shown: str) -> pd.DataFrame:
    """Every grid of these studies: the runs it names, those published, and core-hours the others are estimated at."""
    rows = {}
    for name, (study, group) in published().items():
        if study in studies_shown:
            index = runs.published_index(study)
            left = [params for params in group if studies.key(study, params) not in index]
            hours = sum(map(studies.get(study).cost, left)) / 3600
            rows[f"data/grids/{name}.yml"] = {
                "runs": len(group),
                "published": len(group) - len(left),
                "core-hours left": round(hours, 1),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("grid")


def recorded(name: str, **where: object) -> tuple[pd.DataFrame, str]:
    """The published rows of a grid's runs with these parameters, and what to type for those that are not published.

    The text is empty when none is missing. For pages that show a grid once it is recorded, and train nothing.
    """
    study, group = load(FOLDER / f"{name}.yml")
    wanted = [p for p in group if all(getattr(p, k) == v for k, v in where.items())]
    keys = {studies.key(study, params) for params in wanted}
    table = runs.published(study)
    table = table[table.run.isin(keys)]
    missing = len(keys) - table.run.nunique()
    text = f"{missing} of {len(keys)} runs not recorded yet: nclib record --grid data/grids/{name}.yml"
    return table, text if missing else ""
