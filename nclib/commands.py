"""The commands that `nclib` knows: execute, record, publish, status, gc, data, smoke, measure."""

import argparse
import sys

from nclib import runs
from nclib.data import manifest


def execute(arguments: argparse.Namespace) -> None:
    """Execute a notebook; what it asks for and is missing is trained first."""
    from nclib import notebooks, studies
    from nclib.studies.params import ParameterError

    notebook, output = arguments.notebook, arguments.output
    chosen = notebooks.parameters(notebook, _given(arguments), arguments.profile)
    if output is None:
        if chosen:
            raise ParameterError(
                f"other parameters would overwrite {notebook}: name an output with -o OUT.ipynb"
            )
        output = notebook
    if not output.parent.is_dir():
        raise ParameterError(f"there is no folder {output.parent} to write {output.name} into: make it first")
    # Train here rather than in the kernel: the progress is seen, and an error is its own one line.
    studies.record(notebooks.cells(notebook, chosen), stale=False).raise_failures()
    notebooks.execute(notebook, chosen, output, progress=sys.stderr.isatty())
    print(f"wrote {output}")


def _given(arguments: argparse.Namespace) -> dict[str, str]:
    """The -p NAME VALUE of a command by name."""
    from nclib.studies.params import ParameterError

    given = dict(arguments.parameters)
    for name in given:
        if [n for n, _ in arguments.parameters].count(name) > 1:
            raise ParameterError(f"-p {name} is there twice: name it once, several values as in 2,4,8")
    return given


def record(arguments: argparse.Namespace) -> int:
    """Train and record the missing runs that the arguments name."""
    from nclib import studies
    from nclib.studies.params import ParameterError

    for name in ("workers", "threads"):
        number = getattr(arguments, name)
        if number is not None and number < 1:
            raise ParameterError(f"--{name} must be at least 1, got {number}")
        if number is not None and arguments.scheduler is not None:
            raise ParameterError(f"--{name} goes without --scheduler: a Dask cluster has the workers it has")
    if arguments.device == "cuda" and arguments.scheduler is None:
        studies.require_cuda()
    report = studies.record(
        _named(arguments),
        workers=arguments.workers,
        threads=arguments.threads or 1,
        scheduler=arguments.scheduler,
        device=arguments.device,
    )
    print(report.table().to_string())
    for line in report.failures[:5]:
        print(f"nclib: {line}", file=sys.stderr)
    if len(report.failures) > 5:
        print(f"nclib: and {len(report.failures) - 5} more failed; see `nclib status`", file=sys.stderr)
    return 1 if report.failures else 0


def _named(arguments: argparse.Namespace) -> list:
    """The (study, params) that the arguments of `record` name."""
    from nclib import notebooks, studies
    from nclib.studies import grids
    from nclib.studies.params import ParameterError, axes, product

    study, grid, profile = arguments.study, arguments.grid, arguments.profile
    if not (study or grid or arguments.all):
        raise ParameterError("name one of: a study, --grid FILE, --all")
    if study is not None and study.endswith((".yml", ".yaml")):
        raise ParameterError(f"{study} is no study: a grid file is named by --grid {study}")
    if study is not None:
        studies.get(study)  # an unknown name is an error, whatever else is named
    if sum(map(bool, (grid, arguments.all, profile))) > 1:
        raise ParameterError("name only one of --profile, --grid FILE and --all")
    given = _given(arguments)
    if arguments.seeds is not None:
        if "seed" in given:
            raise ParameterError("name the seeds once: with --seeds, or with -p seed")
        given["seed"] = arguments.seeds
    if grid or arguments.all:
        found = []
        for path in [grid] if grid else sorted(grids.FOLDER.glob("*.yml")):
            name, _ = grids.load(path)
            if study in (None, name):
                found += [(name, params) for params in grids.load(path, given)[1]]
            elif grid:
                raise ParameterError(f"{path} is a grid of {name}, not of {study}")
    elif profile or given.keys() <= {"seed"}:
        found = [(study, params) for params in notebooks.asked(study, profile, given)]
    else:
        kind = studies.get(study).Params
        found = [(study, params) for params in product(kind, **axes(given, kind))]
    if not found:
        raise ParameterError(f"no grid or notebook names runs of {study}: name them with -p")
    return found


def publish(arguments: argparse.Namespace) -> int:
    """Append finished runs to data/runs."""
    from nclib import publication, studies

    names = [studies.get(arguments.study).__name__.rpartition(".")[2]] if arguments.study else studies.STUDIES
    refusals = 0
    for name in names:
        count, refused = publication.publish(name)
        print(f"{name}: {count} runs published")
        for line in refused:
            print(f"nclib: {name} {line}", file=sys.stderr)
        refusals += len(refused)
    return 2 if refusals else 0


def status(arguments: argparse.Namespace) -> None:
    """Print what is recorded, published, stale, running, failed and missing of all that is named."""
    import pandas as pd

    from nclib import studies, upkeep

    rows = {}
    states = {study: upkeep.unfinished(study) for study in studies.STUDIES}
    for name, study, cells in _everything_named():
        keys = [studies.key(study, params) for params in cells]
        index, stale = runs.published_index(study), set(runs.stale(study))
        recorded = {k for k in keys if k in index or runs.is_recorded(study, k)}
        state = [states[study].get(k, "").partition(":")[0] for k in keys if k not in recorded]
        rows[name, study] = {
            "runs": len(keys),
            "recorded": len(recorded),
            "published": sum(k in index for k in keys),
            "stale": sum(k in stale for k in keys),
            "running": state.count("running"),
            "failed": state.count("failed"),
            "missing": len(keys) - len(recorded),
        }
    print(pd.DataFrame.from_dict(rows, orient="index").rename_axis(["named by", "study"]).to_string())
    for study, found in states.items():
        for key, state in found.items():
            print(f"{study} {key}: {state}")


def _everything_named() -> list:
    """(by what, study, cells) for every grid, and for what the notebooks ask for under each profile."""
    from nclib import notebooks, studies
    from nclib.studies import grids

    found = [(f"grid {name}", study, cells) for name, (study, cells) in grids.published().items()]
    for profile in (None, *notebooks.PROFILES):
        for study in studies.STUDIES:
            name = f"profile {profile}" if profile else "notebooks"
            found.append((name, study, notebooks.asked(study, profile, {})))
    return found


def gc(arguments: argparse.Namespace) -> int:
    """Remove what is left over in the results, after asking."""
    from nclib import studies, upkeep

    named = _everything_named() if arguments.unnamed else ()
    found = upkeep.killed_writes()
    for study in studies.STUDIES:
        keys = {studies.key(study, params) for _, of, cells in named if of == study for params in cells}
        found += upkeep.leftovers(study, keys if arguments.unnamed else None)
    if not found:
        print("nothing to remove")
        return 0
    for leftover in found:
        print(f"{leftover.path.relative_to(runs.results())}: {leftover.why}")
    size = sum(leftover.size for leftover in found) / 1e6
    if not (arguments.yes or _agreed(f"remove these {len(found)} ({size:.1f} MB)? [y/N] ")):
        print(f"nothing was removed of {len(found)} ({size:.1f} MB); --yes removes without asking")
        return 0
    kept = [leftover for leftover in found if not leftover.remove()]
    for leftover in kept:
        print(f"{leftover.path.relative_to(runs.results())}: its run is being made by now, and was left")
    print(f"removed {len(found) - len(kept)} of {len(found)} ({size:.1f} MB)")
    return 0


def _agreed(question: str) -> bool:
    """Whether somebody is there and says yes."""
    try:
        return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def data(arguments: argparse.Namespace) -> int:
    """List, fetch or verify the data."""
    from nclib import data

    if arguments.action == "fetch":
        for path in manifest.fetch("fashion_mnist"):
            print(path)
        return 0
    if arguments.action == "verify":
        bad = 0
        for name, ok, message in manifest.verify():
            print(f"{'ok ' if ok else 'BAD'} {name}: {message}")
            bad += not ok
        if data.available("fashion_mnist"):
            for split in data.SPLITS:
                data.load("fashion_mnist", split)
            print("ok  fashion_mnist: all four files have their published checksums")
        return 2 if bad else 0
    for name in data.names():
        print(f"{name:22} {'here' if data.available(name) else 'not here'}")
    return 0


def smoke(arguments: argparse.Namespace) -> None:
    """Re-run the smoke records and write them anew."""
    from nclib import studies
    from nclib.studies import smoke

    if arguments.study:
        studies.get(arguments.study)
    for study in [arguments.study] if arguments.study else studies.STUDIES:
        print(smoke.update(study))


def measure(arguments: argparse.Namespace) -> None:
    """Measure the collapse of somebody's own model."""
    from nclib.own import command
    from nclib.studies.params import ParameterError

    options = {name: value for name, value in vars(arguments).items() if name not in ("command", "target")}
    try:
        command.measure(arguments.target, **options)
    except ValueError as error:
        raise ParameterError(str(error)) from error
