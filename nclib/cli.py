"""The command line: execute, record, publish, status, gc, data, smoke, measure."""

import argparse
import sys
from pathlib import Path

from nclib import runs
from nclib.data import DataError, manifest
from nclib.runs import RecordError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """One line instead of the usage text, and exit status 2."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command: 0 when it did what was asked, 1 when runs failed, 2 with one line when it could not."""
    arguments = _parser().parse_args(argv)
    from nclib.notebooks import ExecutionError
    from nclib.studies.params import ParameterError

    try:
        return arguments.command(arguments) or 0
    except (ParameterError, DataError, RecordError, ExecutionError) as error:
        print(f"nclib: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stdout = None
        return 0
    except OSError as error:  # a folder that cannot be written, a disk that is full
        print(f"nclib: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nclib: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nclib", description="Neural collapse, re-executed.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, function, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=function)
        return sub

    def parameter(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
        )

    sub = command("execute", _execute, "execute a notebook, its parameters checked before a kernel starts")
    sub.add_argument("notebook", type=Path)
    parameter(sub)
    sub.add_argument(
        "--profile", choices=("smoke", "quick", "paper"), help="values from notebooks/params/PROFILE.yml"
    )
    sub.add_argument(
        "-o", dest="output", type=Path, help="where to write; needed with other parameters than its own"
    )

    sub = command("record", _record, "train and record the runs that are missing")
    sub.add_argument("study", nargs="?", help="a study: runs named by -p, or those its notebooks ask for")
    parameter(sub)
    sub.add_argument(
        "--profile", choices=("smoke", "quick", "paper"), help="what the study's notebooks ask for under it"
    )
    sub.add_argument("--grid", type=Path, metavar="FILE", help="the runs of a grid file")
    sub.add_argument("--all", action="store_true", help="every grid in data/grids")
    sub.add_argument("--seeds", help='in place of the seeds named elsewhere: "0-9" or "0,3"')
    sub.add_argument(
        "--workers", type=int, help="processes, one thread each; by default as many as cores, or GPUs"
    )
    sub.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers do the work")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")

    sub = command("publish", _publish, "append finished runs to data/runs")
    sub.add_argument("study", nargs="?", help="one study; all by default")

    command(
        "status", _status, "per grid, and per study and profile: recorded, running, failed, missing, stale"
    )

    sub = command("gc", _gc, "remove what is left over in the results, after asking")
    sub.add_argument(
        "--unnamed",
        action="store_true",
        help="remove runs that no grid or notebook names, too, finished or not",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask")

    sub = command("data", _data, "list, fetch or verify the data")
    sub.add_argument("action", nargs="?", choices=("list", "fetch", "verify"), default="list")

    sub = command(
        "smoke", _smoke, "re-run the smoke records and write them anew where numbers moved or rows were added"
    )
    sub.add_argument("study", nargs="?", help="one study; all by default")

    sub = command("measure", _measure, "measure the collapse of a model of your own")
    sub.add_argument(
        "target", metavar="MODULE:FUNCTION", help="it returns (model, loader) or (model, {split: loader})"
    )
    sub.add_argument("--checkpoints", metavar="PATTERN", help="state_dicts to load, such as 'ckpt/*.pt'")
    sub.add_argument("--classifier", metavar="NAME", help="the nn.Linear that gives the logits")
    sub.add_argument(
        "--classes",
        metavar="LABELS",
        help="what the classifier's rows stand for: 3,7,11, or some by 3:0,11:2",
    )
    sub.add_argument(
        "--unpack", metavar="MODULE:FUNCTION", help="from a batch of any form to (inputs, labels)"
    )
    sub.add_argument("--device", help="where to measure; by default where the model is")
    sub.add_argument("-o", dest="output", type=Path, help="where to write the long table (Parquet)")
    return parser


def _execute(arguments: argparse.Namespace) -> None:
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


def _record(arguments: argparse.Namespace) -> int:
    from nclib import studies
    from nclib.studies.params import ParameterError

    if arguments.workers is not None and arguments.workers < 1:
        raise ParameterError(f"--workers must be at least 1, got {arguments.workers}")
    if arguments.workers is not None and arguments.scheduler is not None:
        raise ParameterError("--workers goes without --scheduler: a Dask cluster has the workers it has")
    if arguments.device == "cuda" and arguments.scheduler is None:
        studies.require_cuda()
    report = studies.record(
        _named(arguments),
        workers=arguments.workers,
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


def _publish(arguments: argparse.Namespace) -> int:
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


def _status(arguments: argparse.Namespace) -> None:
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


def _gc(arguments: argparse.Namespace) -> int:
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


def _data(arguments: argparse.Namespace) -> int:
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


def _smoke(arguments: argparse.Namespace) -> None:
    from nclib import studies
    from nclib.studies import smoke

    if arguments.study:
        studies.get(arguments.study)
    for study in [arguments.study] if arguments.study else studies.STUDIES:
        print(smoke.update(study))


def _measure(arguments: argparse.Namespace) -> None:
    from nclib.own import command
    from nclib.studies.params import ParameterError

    options = {name: value for name, value in vars(arguments).items() if name not in ("command", "target")}
    try:
        command.measure(arguments.target, **options)
    except ValueError as error:
        raise ParameterError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
