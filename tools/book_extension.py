"""Sphinx extension of this book: repository buttons from one setting, docstrings read as plain text."""

import re

from sphinx.application import Sphinx
from sphinx.config import Config

_DISPLAY = re.compile(r"\$\$(.+?)\$\$([.,;:]?)", re.DOTALL)
_INLINE = re.compile(r"\$(?P<math>[^$\n]+(?:\n[^$\n]+)?)\$|`(?P<code>[^`]+)`")
_RST_SPECIAL = re.compile(r"[\\*|`]|(?<=\w)_(?!\w)")


def _set_theme_options(app: Sphinx, config: Config) -> None:
    """One search field, and every button that needs the repository's address once there is one.

    Here and not in _config.yml, where theme options would replace those that Jupyter Book derives.
    """
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the sidebar has a search field already
    if not options.get("repository_url"):
        return
    for button in ("use_repository_button", "use_edit_page_button", "use_issues_button"):
        options[button] = True
    options["launch_buttons"] = {
        "notebook_interface": "jupyterlab",
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com"
        if "github.com/" in options["repository_url"]
        else "",
    }


def inline_to_rst(text: str) -> str:
    """One paragraph with `code` and $math$ in reStructuredText, everything else in it taken literally.

    Without this, `|W|_F^2` would be a substitution reference and `H*` the start of an emphasis.
    """
    out, end = [], 0
    for match in _INLINE.finditer(text):
        out.append(_RST_SPECIAL.sub(r"\\\g<0>", text[end : match.start()]))
        if match["math"]:
            out.append(f":math:`{' '.join(match['math'].split())}`")
        else:
            out.append(f"``{' '.join(match['code'].split())}``")
        end = match.end()
        if text[end : end + 1].isalnum():
            out.append("\\ ")  # inline markup must end at a word boundary: `ClassStats`es
    out.append(_RST_SPECIAL.sub(r"\\\g<0>", text[end:]))
    return "".join(out)


def docstring_to_rst(lines: list[str]) -> list[str]:
    """A docstring's lines in reStructuredText: a change of indentation starts a new block, examples stay.

    Explicit reStructuredText (directives, roles, double backticks) passes through untouched.
    """
    text = "\n".join(lines)
    if "``" in text or re.search(r"(^|\n) *\.\. |:[a-z:]+:`", text):
        return lines
    text = _DISPLAY.sub(lambda match: f"\n\n$${' '.join(match[1].split())}{match[2]}\n\n", text)
    out: list[str] = []
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text):
        if paragraph.startswith("$$"):
            out += [f".. math:: {paragraph[2:]}", ""]
            continue
        if paragraph.lstrip().startswith(">>>"):
            out += [*paragraph.split("\n"), ""]
            continue
        previous = None
        for line in inline_to_rst(paragraph).split("\n"):
            indent = len(line) - len(line.lstrip())
            if previous is not None and indent != previous:
                out.append("")
            out.append(line)
            previous = indent
        out.append("")
    return out


def _rewrite_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = docstring_to_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    # Jupyter Book always passes this setting on, but its owner, sphinx_comments, is not loaded here.
    app.add_config_value("comments_config", {}, "html")
    app.connect("config-inited", _set_theme_options)
    app.connect("autodoc-process-docstring", _rewrite_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
