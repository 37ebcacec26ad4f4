"""The sets of versions that scripts/test-versions runs agree with the bounds that pyproject.toml promises."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
# What each integration stands on; of these both ends are tested.
FRAMEWORKS = {"langchain": ["langchain-core", "langchain-litellm", "litellm"], "llamaindex": ["llama-index-core"]}


def sets_of_versions() -> dict[str, list[str]]:
    """Return the words of each set, by name."""
    lines = (ROOT / "scripts/versions.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    named = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {name: words for name, *words in named}


def versions(name: str) -> dict[str, Version]:
    pairs = [word.split("==") for word in sets_of_versions()[name] if "==" in word]
    return {package: Version(version) for package, version in pairs}


def requirements() -> dict[str, Requirement]:
    """Return what the distribution and its extras ask for, by package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    every = [Requirement(text) for group in groups for text in group]
    return {requirement.name.lower(): requirement for requirement in every if requirement.name != "mixllm"}


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.lower(): Version(version) for name, version in pairs}


def lower_bound(requirement: Requirement) -> Version:
    [bound] = [each.version for each in requirement.specifier if each.operator == ">="]
    return Version(bound)


@pytest.mark.parametrize(
    ("framework", "package"), [(framework, package) for framework, some in FRAMEWORKS.items() for package in some]
)
def test_the_oldest_set_has_the_lower_bound_and_the_newest_is_no_older_than_the_constraints(
    framework: str, package: str
) -> None:
    assert versions(f"{framework}-oldest")[package] == lower_bound(requirements()[package])
    assert versions(f"{framework}-newest")[package] >= pinned()[package]


def test_every_version_is_one_that_is_allowed() -> None:
    allowed = requirements()
    for name in sets_of_versions():
        for package, version in versions(name).items():
            if package in allowed:
                assert allowed[package].specifier.contains(version), (name, package, version)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_litellm_is_tested_in_two_minor_versions(framework: str) -> None:
    minors = {versions(f"{framework}-{age}")["litellm"].release[:2] for age in ("oldest", "newest")}
    assert len(minors) == 2


def test_every_set_tests_something_and_has_no_word_that_the_script_does_not_know() -> None:
    for name, words in sets_of_versions().items():
        assert re.fullmatch(r"[a-z]+-(oldest|newest)", name)
        tests = [word for word in words if word.startswith("tests/")]
        assert tests and all((ROOT / path).exists() for path in tests)
        assert all(word in tests or re.match(r"[a-z-]+==\d|unmet:[a-z-]+$|ignore:", word) for word in words), name


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").iterdir()), ids=lambda script: script.name)
def test_scripts_are_sound(script: Path) -> None:
    if script.suffix == ".txt":
        assert script.read_text(encoding="utf-8").startswith("#")
    elif script.suffix == ".py":
        assert ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    else:
        checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
