"""The command line: execute, record, publish, status, data, smoke."""

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
    """Run one command; 0 when it did what was asked, 2 with one line on stderr when it could not."""
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
    sub.add_argument("study", nargs="?", help="a study, with -p for parameters and comma-separated axes")
    parameter(sub)
    sub.add_argument("--grid", type=Path, help="a grid file instead of a study")
    sub.add_argument("--all", action="store_true", help="every grid in data/grids")
    sub.add_argument("--workers", type=int, help="processes, one thread each; as many as cores by default")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")

    sub = command("publish", _publish, "append finished runs to data/runs")
    sub.add_argument("study", nargs="?", help="one study; all by default")

    command("status", _status, "per grid: recorded, published, stale, failed, missing")

    sub = command("data", _data, "list, fetch or verify the data")
    sub.add_argument("action", nargs="?", choices=("list", "fetch", "verify"), default="list")

    sub = command(
        "smoke", _smoke, "re-run the smoke records and write them anew where numbers moved or rows were added"
    )
    sub.add_argument("study", nargs="?", help="one study; all by default")
    return parser


def _execute(arguments: argparse.Namespace) -> None:
    from nclib import notebooks, studies

    notebook, output = arguments.notebook, arguments.output
    chosen = notebooks.parameters(notebook, dict(arguments.parameters), arguments.profile)
    if output is None:
        if chosen:
            raise notebooks.ParameterError(
                f"other parameters would overwrite {notebook}: name an output with -o OUT.ipynb"
            )
        output = notebook
    if not output.parent.is_dir():
        raise notebooks.ParameterError(
            f"there is no folder {output.parent} to write {output.name} into: make it first"
        )
    # Train here rather than in the kernel: the progress is seen, and an error is its own one line.
    studies.record(notebooks.cells(notebook, chosen))
    notebooks.execute(notebook, chosen, output, progress=sys.stderr.isatty())
    print(f"wrote {output}")


def _record(arguments: argparse.Namespace) -> None:
    from nclib import studies
    from nclib.notebooks import resolve
    from nclib.studies import grids
    from nclib.studies.params import ParameterError

    if sum(map(bool, (arguments.study, arguments.grid, arguments.all))) != 1:
        raise ParameterError("name one of: a study, --grid FILE, --all")
    if arguments.workers is not None and arguments.workers < 1:
        raise ParameterError(f"--workers must be at least 1, got {arguments.workers}")
    if arguments.study:
        fields = studies.get(arguments.study).Params.__dataclass_fields__
        given = dict(arguments.parameters)
        axes = {name: name for name in given if name in fields}
        cells = [(arguments.study, params) for params in resolve(given, arguments.study, axes)]
    else:
        if arguments.parameters:
            raise ParameterError("-p goes with a study: a grid file names its parameters itself")
        chosen = grids.published().values() if arguments.all else [grids.load(arguments.grid)]
        cells = [(study, params) for study, group in chosen for params in group]
    made = studies.record(cells, workers=arguments.workers, device=arguments.device)
    print(f"{len(cells)} runs: {made} recorded now, {len(cells) - made} before")


def _publish(arguments: argparse.Namespace) -> int:
    from nclib import studies

    names = [studies.get(arguments.study).__name__.rpartition(".")[2]] if arguments.study else studies.STUDIES
    refusals = 0
    for name in names:
        count, refused = runs.publish(name)
        print(f"{name}: {count} runs published")
        for line in refused:
            print(f"nclib: {name} {line}", file=sys.stderr)
        refusals += len(refused)
    return 2 if refusals else 0


def _status(arguments: argparse.Namespace) -> None:
    from nclib import studies
    from nclib.studies import grids

    print(
        f"{'grid':20} {'study':16} {'runs':>5} {'recorded':>9} {'published':>10} {'stale':>6} {'missing':>8}"
    )
    for name, (study, cells) in grids.published().items():
        keys = [studies.key(study, params) for params in cells]
        index, stale = runs.published_index(study), set(runs.stale(study))
        recorded = [k for k in keys if k in index or runs.find(study, k) is not None]
        counts = (len(keys), len(recorded), sum(k in index for k in keys), sum(k in stale for k in keys))
        print(
            f"{name:20} {study:16} {counts[0]:5} {counts[1]:9} {counts[2]:10} {counts[3]:6} {counts[0] - counts[1]:8}"
        )
    for study in studies.STUDIES:
        for run_key, state in runs.unfinished(study).items():
            print(f"{study} {run_key}: {state}")


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


if __name__ == "__main__":
    sys.exit(main())
