"""Docstrings reach Sphinx as plain text with `code` and $math$; repository buttons wait for an address."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("sphinx")

_SPEC = importlib.util.spec_from_file_location(
    "book_extension", Path(__file__).parents[1] / "tools" / "book_extension.py"
)
extension = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(extension)


@pytest.mark.parametrize(
    ("text", "rst"),
    [
        ("rank $K-1$, see `of`", "rank :math:`K-1`, see ``of``"),
        ("lambda/2 |W|_F^2 and H*", r"lambda/2 \|W\|_F^2 and H\*"),
        ("a trailing underscore_ here", r"a trailing underscore\_ here"),
        ("`Claim`s", r"``Claim``\ s"),
        ("an odd ` quote", r"an odd \` quote"),
        ("mu_G stays", "mu_G stays"),
    ],
)
def test_inline_text_is_taken_literally(text, rst):
    assert extension.inline_to_rst(text) == rst


def test_a_change_of_indentation_starts_a_block():
    assert extension.docstring_to_rst(["Formula:", "    a = b", "with b."]) == [
        *("Formula:", "", "    a = b", "", "with b.", "")
    ]


def test_display_math_becomes_a_directive_over_line_breaks():
    lines = extension.docstring_to_rst(["It is", "$$a", "  = b.$$", "Always."])
    assert ".. math:: a = b." in lines
    assert "Always." in lines


@pytest.mark.parametrize("line", [":math:`x` as it is, H*", ".. note:: H*", "``code`` H*"])
def test_explicit_markup_passes_through(line):
    assert extension.docstring_to_rst([line]) == [line]


def test_examples_are_left_alone():
    assert ">>> f(*x)" in extension.docstring_to_rst(["Text.", "", ">>> f(*x)", "1", ""])


@pytest.mark.parametrize(("address", "shown"), [("", False), ("https://github.com/owner/name", True)])
def test_buttons_appear_only_with_an_address(address, shown):
    config = SimpleNamespace(html_theme_options={"repository_url": address})
    extension._set_theme_options(None, config)
    assert config.html_theme_options.get("use_repository_button", False) is shown
    assert ("launch_buttons" in config.html_theme_options) is shown
