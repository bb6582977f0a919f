"""The README's opening says what the executed notebooks say, sentence and figure."""

import shutil

import pytest

from tools import finding


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("scoreboard.ipynb", finding.FIGURE[0]):
        shutil.copy(finding.ROOT / "notebooks" / name, tmp_path / "notebooks")
    shutil.copytree(finding.ROOT / "book" / "images", tmp_path / "book" / "images")
    shutil.copy(finding.ROOT / "README.md", tmp_path)
    return tmp_path


def test_the_readme_is_up_to_date(copy):
    assert finding.main(check=True, root=copy) == 0


def test_an_edited_number_and_an_older_figure_are_noticed_and_mended(copy):
    readme, image = copy / "README.md", copy / finding.FIGURE[2]
    before = readme.read_text()
    readme.write_text(before.replace("claims are supported", "claims are proven", 1))
    assert readme.read_text() != before
    assert finding.main(check=True, root=copy) == 1
    finding.main(check=False, root=copy)
    assert readme.read_text() == before
    image.write_bytes(image.read_bytes() + b"older")
    assert finding.main(check=True, root=copy) == 1


def test_every_headline_of_the_scoreboard_is_told_and_no_other():
    glued = finding.glued(finding.notebook("scoreboard.ipynb"))
    assert {name.removeprefix("headline_") for name in glued if name.startswith("headline_")} == set(
        finding.STUDIES
    )
