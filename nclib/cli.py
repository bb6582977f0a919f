"""The command line: what may be typed, and how a command ends."""

import argparse
import sys
from pathlib import Path

from nclib import commands
from nclib.data import DataError
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
        begins_again = arguments.command is commands.measure
        rest = "nothing was written" if begins_again else "the same command goes on where this one stopped"
        print(f"nclib: interrupted; {rest}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nclib", description="Neural collapse, re-executed.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, function, summary: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=function)
        return sub

    def parameter(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
        )

    sub = command(
        "execute", commands.execute, "execute a notebook, its parameters checked before a kernel starts"
    )
    sub.add_argument("notebook", type=Path)
    parameter(sub)
    sub.add_argument(
        "--profile", choices=("smoke", "quick", "paper"), help="values from notebooks/params/PROFILE.yml"
    )
    sub.add_argument(
        "-o", dest="output", type=Path, help="where to write; needed with other parameters than its own"
    )

    sub = command("record", commands.record, "train and record the runs that are missing")
    sub.add_argument("study", nargs="?", help="a study: runs named by -p, or those its notebooks ask for")
    parameter(sub)
    sub.add_argument(
        "--profile", choices=("smoke", "quick", "paper"), help="what the study's notebooks ask for under it"
    )
    sub.add_argument("--grid", type=Path, metavar="FILE", help="the runs of a grid file")
    sub.add_argument("--all", action="store_true", help="every grid in data/grids")
    sub.add_argument("--seeds", help='in place of the seeds named elsewhere: "0-9" or "0,3"')
    sub.add_argument("--workers", type=int, help="processes at a time; by default as many as cores, or GPUs")
    sub.add_argument("--threads", type=int, help="of each process, for fewer runs than cores; by default 1")
    sub.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers do the work")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")

    sub = command("publish", commands.publish, "append finished runs to data/runs")
    sub.add_argument("study", nargs="?", help="one study; all by default")

    command(
        "status",
        commands.status,
        "per grid, and per study and profile: recorded, running, failed, missing, stale",
    )

    sub = command("gc", commands.gc, "remove what is left over in the results, after asking")
    sub.add_argument(
        "--unnamed",
        action="store_true",
        help="remove runs that no grid or notebook names, too, finished or not",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask")

    sub = command("data", commands.data, "list, fetch or verify the data")
    sub.add_argument("action", nargs="?", choices=("list", "fetch", "verify"), default="list")

    sub = command(
        "smoke",
        commands.smoke,
        "re-run the smoke records and write them anew where numbers moved or rows were added",
    )
    sub.add_argument("study", nargs="?", help="one study; all by default")

    sub = command("measure", commands.measure, "measure the collapse of a model of your own")
    sub.add_argument(
        "target", metavar="MODULE:FUNCTION", help="it returns (model, loader) or (model, {split: loader})"
    )
    sub.add_argument(
        "--checkpoints",
        metavar="PATTERN",
        help="state_dicts to load, such as 'ckpt/*.pt'; the epoch is in the name",
    )
    sub.add_argument("--classifier", metavar="NAME", help="the nn.Linear that gives the logits")
    sub.add_argument(
        "--classes",
        metavar="LABELS",
        help="what the classifier's rows stand for: 3,7,11, or some by 3:0,11:2",
    )
    sub.add_argument(
        "--unpack", metavar="MODULE:FUNCTION", help="from a batch of any form to (inputs, labels)"
    )
    sub.add_argument(
        "--layers", metavar="NAMES", help="modules inside the model to measure too: layer1,layer2"
    )
    sub.add_argument("--device", help="where to measure; by default where the model is")
    sub.add_argument("-o", dest="output", type=Path, help="where to write the long table (Parquet)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
