"""The site checker finds what a reader would trip over, and is silent about a sound site."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[1] / "tools" / "check_site.py"


def _load():
    spec = importlib.util.spec_from_file_location("check_site", CHECKER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check_site = _load().check_site

SOUND = """<!doctype html><html><head>
<link rel="stylesheet" href="_static/style.css?digest=1"><link rel="canonical" href="https://example.org/">
<style>h1 { background: url("data:image/png;base64,AAAA") }</style>
<script src="_static/app.js"></script><script>const home = "https://example.org/";</script></head>
<body id="top"><h1 id="start">Start</h1>
<a href="#start">here</a> <a href="pages/two.html#far%20end">two</a> <a href="pages/">folder</a>
<a href="https://example.org/paper">a paper</a> <a href="mailto:a@example.org">mail</a> <a href="#top">up</a>
<img src="_static/figure.png" srcset="_static/figure.png 2x" alt="NC1 falls with training">
<img src="data:image/png;base64,AAAA" alt="fig. 1: a simplex in 2.5 turns"></body></html>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for folder in ("_static", "pages"):
        (tmp_path / folder).mkdir()
    (tmp_path / "index.html").write_text(SOUND)
    two = '<h2 id="far end">Far</h2><a href="../index.html#start">up</a>'
    (tmp_path / "pages" / "two.html").write_text(two)
    (tmp_path / "pages" / "index.html").write_text('<a name="old">old</a><a href="two.html">two</a>')
    css = "/* url(gone.png) */ @font-face { src: url('font.woff2?v=1') }"
    (tmp_path / "_static" / "style.css").write_text(css)
    for name in ("app.js", "font.woff2", "figure.png"):
        (tmp_path / "_static" / name).write_text("")
    # the theme leaves templates among the static files
    (tmp_path / "_static" / "macros.html").write_text('<script src="{{ pathto(1) }}"></script>')
    return tmp_path


def test_a_sound_site_has_no_problems(site):
    assert check_site(site) == []


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ('<a href="gone.html">x</a>', "broken link gone.html"),
        ('<a href="pages/two.html#nowhere">x</a>', "no anchor 'nowhere' in pages/two.html"),
        ('<a href="#nowhere">x</a>', "no anchor 'nowhere' in extra.html"),
        ('<a href="../outside.html">x</a>', "broken link ../outside.html"),
        ('<script src="gone.js"></script>', "broken link gone.js"),
        ('<img src="gone.png" alt="a figure">', "broken link gone.png"),
        ('<meta http-equiv="refresh" content="0; url=gone.html">', "broken link gone.html"),
        (
            '<script src="https://cdn.example.org/x.js"></script>',
            "https://cdn.example.org/x.js from elsewhere",
        ),
        ('<script src="//cdn.example.org/x.js"></script>', "//cdn.example.org/x.js from elsewhere"),
        ('<script type="module">import "https://cdn.example.org/m.js"</script>', "m.js from elsewhere"),
        ('<script>s.src = "https://cdn.example.org/s.js"</script>', "s.js from elsewhere"),
        ('<link rel="stylesheet" href="https://cdn.example.org/x.css">', "x.css from elsewhere"),
        ('<link rel="preload" as="font" href="https://cdn.example.org/f.woff2">', "f.woff2 from elsewhere"),
        (
            '<link rel="preconnect" href="https://fonts.example.org">',
            "https://fonts.example.org from elsewhere",
        ),
        ('<style>@import "https://cdn.example.org/i.css";</style>', "i.css from elsewhere"),
        ("<style>@font-face { src: url(https://cdn.example.org/f.woff) }</style>", "f.woff from elsewhere"),
        ('<p style="background: url(https://cdn.example.org/b.png)">x</p>', "b.png from elsewhere"),
        ('<img src="https://example.org/badge.svg" alt="a badge">', "badge.svg from elsewhere"),
        (
            '<img src="_static/figure.png" srcset="https://example.org/2x.png 2x" alt="a">',
            "2x.png from elsewhere",
        ),
        ('<iframe src="https://example.org/video"></iframe>', "https://example.org/video from elsewhere"),
        ('<img src="_static/figure.png">', "_static/figure.png has no alternative text"),
        ('<img src="_static/figure.png" alt=" ">', "_static/figure.png has no alternative text"),
        ('<img src="_static/figure.png" alt="../_images/0b1c.png">', "file name as its alternative text"),
        ('<img src="_static/figure.png" alt="figure.SVG">', "file name as its alternative text"),
    ],
)
def test_each_fault_is_one_problem_that_names_it(site, html, says):
    (site / "extra.html").write_text(html)
    (problem,) = check_site(site)
    assert problem.startswith("extra.html: ")
    assert says in problem


@pytest.mark.parametrize(
    "rule", ["@import url(https://cdn.example.org/a.css);", "p { background: url('gone.png') }"]
)
def test_style_sheets_are_read_too(site, rule):
    (site / "_static" / "extra.css").write_text(rule)
    (problem,) = check_site(site)
    assert problem.startswith("_static/extra.css: ")


def test_a_folder_without_pages_is_a_problem(tmp_path):
    (problem,) = check_site(tmp_path)
    assert "build the book first" in problem


def test_the_command_lists_problems_and_fails_and_passes_a_sound_site(site):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, CHECKER, *arguments], capture_output=True, text=True, check=False
        )

    sound = run(str(site))
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "3 pages, 0 problems" in sound.stdout
    (site / "extra.html").write_text('<a href="gone.html">x</a>')
    faulty = run(str(site))
    assert faulty.returncode == 1
    assert faulty.stderr.count("\n") == 1
    assert run().returncode == 2
