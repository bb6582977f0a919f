"""Write the finding that opens the README, its sentences and its figure, from the executed notebooks.

`python tools/finding.py` writes, `python tools/finding.py --check` only says whether anything would change (exit 1).
"""

import base64
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- finding: written by tools/finding.py -->\n", "<!-- end of the finding -->\n"
FIGURE = ("10_terminal_phase.ipynb", "fig-nc1", "book/images/finding.png")
STUDIES = {
    "terminal": "Terminal phase on FashionMNIST",
    "test": "Layers and test images",
    "needs": "What collapse needs",
    "unconstrained": "Unconstrained features",
    "landscape": "The landscape from many starts",
    "networks": "Trained networks beside the theory",
    "double_descent": "Double descent on MNIST-1D",
    "controls": "What moves its peak",
    "epochs": "The same over epochs",
    "dimension": "Feature dimension",
    "representations": "Representations (CKA)",
}


def notebook(name: str, root: Path = ROOT) -> list[dict]:
    """The cells of an executed notebook."""
    return json.loads((root / "notebooks" / name).read_text())["cells"]


def glued(cells: list[dict]) -> dict[str, str]:
    """Name to text of every value that a notebook glued."""
    values = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                text = output["data"]["application/papermill.record/text/plain"]
                values[name] = "".join(text).strip("'\"")
    return values


def sentences(values: dict[str, str], alt: str) -> str:
    """The finding as Markdown."""
    lines = [
        f"**{values['count_claims']} published claims about neural collapse, judged by machine: "
        f"{values['count_supported']} supported, {values['count_not_supported']} not supported, "
        f"{values['count_inconclusive']} inconclusive** at the scale that is recorded here, "
        f"{values['count_awaiting_runs']} of these for want of runs.",
        "",
        *(f"- **{title}**: {values[f'headline_{key}']}" for key, title in STUDIES.items()),
        "",
        f"![{alt}]({FIGURE[2]})",
        "",
    ]
    return "\n".join(lines)


def figure(cells: list[dict]) -> tuple[bytes, str]:
    """The PNG and the alternative text of the figure that the README shows."""
    for cell in cells:
        described = cell["metadata"].get("mystnb", {})
        if described.get("figure", {}).get("name") == FIGURE[1]:
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    png = "".join(output["data"]["image/png"])
                    return base64.b64decode(png), described["image"]["alt"]
    raise SystemExit(f"notebooks/{FIGURE[0]} has no executed figure {FIGURE[1]}: run `make notebooks`")


def main(check: bool, root: Path = ROOT) -> int:
    """Write both, or say whether they are up to date."""
    png, alt = figure(notebook(FIGURE[0], root))
    readme, image = root / "README.md", root / FIGURE[2]
    head, _, rest = readme.read_text().partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit("README.md lacks the two comments that the finding stands between")
    text = head + BEGIN + sentences(glued(notebook("scoreboard.ipynb", root)), alt) + END + tail
    fresh = readme.read_text() == text and image.exists() and image.read_bytes() == png
    if check:
        print("the README's finding is " + ("up to date" if fresh else "stale: run `make notebooks`"))
        return 0 if fresh else 1
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(png)
    readme.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
