"""The files that describe the environment and the book say the same thing."""

import json
import re
import tomllib
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][^\s+;]*)")


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _direct() -> list[Requirement]:
    extras = _project()["optional-dependencies"]
    return [Requirement(text) for text in _project()["dependencies"] + extras["book"] + extras["test"]]


def _constraint_lines() -> list[str]:
    return [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def _constraints() -> dict[str, str]:
    return dict(PIN.fullmatch(line).groups() for line in _constraint_lines())


def _environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def _conda_pip() -> list[str]:
    return next(entry["pip"] for entry in _environment()["dependencies"] if isinstance(entry, dict))


def test_every_constraint_is_an_exact_pin_listed_once_in_order():
    lines = _constraint_lines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert names == [canonicalize_name(name) for name in names]


def test_no_file_of_the_environment_names_an_index_or_a_path():
    for name in ("constraints.txt", "environment.yml", "pyproject.toml"):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links|@ ", text), name


def test_constraints_satisfy_every_declared_range():
    pins = _constraints()
    for requirement in _direct():
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_the_two_versions_that_the_site_depends_on_most():
    pins = _constraints()
    assert (pins["torch"], pins["jupyter-book"]) == ("2.13.0", "1.0.4.post1")


def test_environment_yml_pins_the_direct_dependencies_as_constraints_does():
    pins = _constraints()
    listed = [line for line in _conda_pip() if not line.startswith("-")]
    direct = sorted({canonicalize_name(requirement.name) for requirement in _direct()})
    assert listed == [f"{name}=={pins[name]}" for name in direct]


def test_environment_yml_installs_the_package_under_the_constraints_on_python_3_11():
    assert "python=3.11" in _environment()["dependencies"]
    assert _conda_pip()[:2] == ["-c constraints.txt", "-e .[book,test]"]


def test_constraints_reach_every_package_that_the_direct_ones_need():
    pins, seen = _constraints(), set()
    pending = [(canonicalize_name(r.name), frozenset(r.extras)) for r in _direct()]
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in pins, f"{name} is installed but not pinned: add it to constraints.txt"
        if name == "torch":
            continue  # its builds differ in the CUDA libraries they bring
        for text in requires(name) or []:
            need = Requirement(text)
            # as on the machine the constraints are made for, whatever this one is
            linux = {"python_version": "3.11", "python_full_version": "3.11.7", "sys_platform": "linux"}
            linux |= {"platform_system": "Linux", "os_name": "posix"}
            if need.marker is None or any(
                need.marker.evaluate({**linux, "extra": extra}) for extra in extras | {""}
            ):
                pending.append((canonicalize_name(need.name), frozenset(need.extras)))


# Jupyter Book ignores a key it does not know without a word, so a typing error would pass unseen.
def _known_keys() -> dict:
    folder = Path(find_spec("jupyter_book").submodule_search_locations[0])
    schema = json.loads((folder / "config_schema.json").read_text())
    # The schema lacks a few keys that its own "master list of all allowed keys", the defaults, has.
    return _merged(
        _schema_keys(schema), _value_keys(yaml.safe_load((folder / "default_config.yml").read_text()))
    )


def _schema_keys(schema: dict) -> dict:
    return {key: _schema_keys(below) for key, below in schema.get("properties", {}).items()}


def _value_keys(values: object) -> dict:
    return {key: _value_keys(below) for key, below in values.items()} if isinstance(values, dict) else {}


def _merged(a: dict, b: dict) -> dict:
    return {key: _merged(a.get(key, {}), b.get(key, {})) for key in a.keys() | b.keys()}


def unknown_keys(config: dict, known: dict, prefix: str = "") -> list[str]:
    """Dotted names of keys that Jupyter Book would ignore; keys below one without named children are free."""
    unknown = []
    for key, value in config.items():
        if key not in known:
            unknown.append(prefix + key)
        elif known[key] and isinstance(value, dict):
            unknown += unknown_keys(value, known[key], f"{prefix}{key}.")
    return unknown


def test_every_key_of_the_book_configuration_is_known():
    assert unknown_keys(yaml.safe_load((ROOT / "_config.yml").read_text()), _known_keys()) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"titel": "x"}, ["titel"]),
        ({"execute": {"execute_notebook": "off"}}, ["execute.execute_notebook"]),
        ({"html": {"analytics": {"google": ""}}}, ["html.analytics.google"]),
        ({"sphinx": {"config": {"anything": 1}}, "title": "x"}, []),
    ],
)
def test_an_unknown_key_is_found_at_any_depth(config, expected):
    assert unknown_keys(config, _known_keys()) == expected


def test_the_book_never_executes_notebooks_itself():
    # unquoted, YAML reads off as False; both would do, but `cache` and `auto` would serve stale results
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["execute_notebooks"] == "off"


def test_mathjax_is_vendored_where_the_configuration_points():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    (vendored,) = config["html_extra_path"]
    path = config["mathjax_path"].removeprefix("../")
    assert (ROOT / vendored / path).stat().st_size > 1_000_000
    assert (ROOT / vendored / path).with_name("LICENSE").is_file()
