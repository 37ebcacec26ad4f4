"""Releases that were tampered with are ruled out, and what they would leave behind is found."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/check-environment"
# 1.82.7 and 1.82.8 stole credentials; 1.107.0 was withdrawn.
BAD_LITELLM = ("1.82.7", "1.82.8", "1.107.0")
SETUPTOOLS = (
    "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
    "enabled and __import__('_distutils_hack').add_shim(); "
)


# -- LiteLLM ---------------------------------------------------------------------------------------------------------


def litellm() -> Requirement:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [found] = [one for one in map(Requirement, project["dependencies"]) if one.name == "litellm"]
    return found


@pytest.mark.parametrize("bad", BAD_LITELLM)
def test_bad_releases_of_litellm_are_ruled_out_by_name(bad: str) -> None:
    asked = litellm().specifier
    assert not asked.contains(bad)
    assert any(one.operator == "!=" and one.version == bad for one in asked)  # even if the lower bound moves
    assert Version(version("litellm")) != Version(bad)
    assert asked.contains(version("litellm"))


def test_litellm_is_named_once_and_pinned_where_everything_is() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    [pinned] = [line for line in text.splitlines() if line.startswith("litellm==")]
    assert litellm().specifier.contains(pinned.removeprefix("litellm=="))


# -- files that run when Python starts -------------------------------------------------------------------------------


class FakeEnvironment:
    """A virtual environment without packages, in which files are planted."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin/python"
        self.packages = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"

    def plant(self, name: str, text: str, owner: str | None = None) -> Path:
        file = self.packages / name
        file.write_text(text, encoding="utf-8")
        if owner is not None:
            digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
            info = self.packages / f"{owner}-1.0.dist-info"
            info.mkdir(exist_ok=True)
            (info / "RECORD").write_text(f"{name},sha256={digest},{len(text)}\n", encoding="utf-8")
        return file

    def pip_audit(self, answers: dict[str, Any]) -> None:
        """Put a stand-in for pip-audit there, which says one thing or another by the service that it is to ask."""
        self.plant(
            "pip_audit.py",
            f"import sys\nservice = sys.argv[-1].removeprefix('--vulnerability-service=')\n"
            f"answer = {answers!r}[service]\nprint(answer) if answer[0] == '{{' else sys.exit(answer)\n",
        )

    def check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", SCRIPT, self.python], capture_output=True, text=True, check=False)


@pytest.fixture
def environment(tmp_path: Path) -> FakeEnvironment:
    return FakeEnvironment(tmp_path / "environment")


def test_this_environment_is_clean_and_what_was_not_audited_is_said() -> None:
    done = subprocess.run(["bash", SCRIPT, sys.executable], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no code runs when Python starts" in done.stdout
    assert "were audited" in done.stdout or "NOTHING WAS AUDITED" in done.stderr


def test_harmless_files_are_let_through(environment: FakeEnvironment) -> None:
    environment.plant("distutils-precedence.pth", SETUPTOOLS, owner="setuptools")
    environment.plant("_virtualenv.pth", "import _virtualenv")
    environment.plant("_virtualenv.py", "")
    environment.plant("mixllm.pth", "/a/folder/of/an/editable/installation\n# import os\nimportant/folder\n")
    done = environment.check()
    assert (done.returncode, "of 3 files" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("name", "text", "owner", "expected"),
    [
        ("litellm_init.pth", "import os; open({mark!r}, 'w')", "litellm", "executes code .*listed by: litellm"),
        ("stray.pth", "/some/folder\nimport\tos; open({mark!r}, 'w')", None, "executes code .*no installed package"),
        ("marked.pth", "\ufeffimport os; open({mark!r}, 'w')", None, "executes code"),
        ("distutils-precedence.pth", "import os; open({mark!r}, 'w')", "setuptools", "executes code"),
        ("distutils-precedence.pth", SETUPTOOLS + "\nimport os; open({mark!r}, 'w')", "setuptools", "executes code"),
        ("distutils-precedence.pth", SETUPTOOLS, None, "no installed setuptools lists it"),
        ("distutils-precedence.pth", SETUPTOOLS, "another", "no installed setuptools lists it .*listed by: another"),
        ("sitecustomize.py", "open({mark!r}, 'w')", None, "sitecustomize.py runs whenever Python starts"),
        ("usercustomize.py", "open({mark!r}, 'w')", None, "usercustomize.py runs whenever Python starts"),
    ],
)
def test_a_planted_file_is_found_and_does_not_run(
    environment: FakeEnvironment, tmp_path: Path, name: str, text: str, owner: str | None, expected: str
) -> None:
    mark = tmp_path / "it-ran"
    environment.plant(name, text.replace("{mark!r}", repr(str(mark))), owner)
    done = environment.check()
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert str(environment.packages / name) in message and "replace every key" in message
    assert re.search(expected, message), message
    assert not mark.exists()


def test_the_fault_of_a_record_is_found(environment: FakeEnvironment) -> None:
    environment.plant("distutils-precedence.pth", SETUPTOOLS, owner="setuptools")
    record = environment.packages / "setuptools-1.0.dist-info/RECORD"
    record.write_text("distutils-precedence.pth,sha256=another,151\n", encoding="utf-8")
    assert "lists it with this content" in environment.check().stderr


def test_an_interpreter_that_is_none(tmp_path: Path) -> None:
    done = subprocess.run(["bash", SCRIPT, tmp_path / "none"], capture_output=True, text=True, check=False)
    assert (done.returncode, "is no interpreter" in done.stderr) == (1, True)


# -- known vulnerabilities -------------------------------------------------------------------------------------------

GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def said(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


@pytest.mark.parametrize(
    ("pypi", "osv", "code", "expected"),
    [
        (said(GOOD, UNKNOWN), "", 0, "pypi: 1 distributions were audited, 1 could not be"),
        (said(GOOD, BAD), "", 1, "error: bad 2.0 has PYSEC-2026-1; fixed in 2.1"),
        (said(UNKNOWN), said(GOOD, GOOD), 0, "osv: 2 distributions were audited"),
        (said(UNKNOWN), said(BAD), 1, "error: bad 2.0 has PYSEC-2026-1"),
        ("no route to host", said(BAD), 1, "error: bad 2.0 has PYSEC-2026-1"),
        (said(UNKNOWN, UNKNOWN), "can't reach osv", 0, "NOTHING WAS AUDITED"),
        ("no route to host", "can't reach osv", 0, "NOTHING WAS AUDITED"),
        (said(), said(), 0, "NOTHING WAS AUDITED"),
    ],
)
def test_what_is_vulnerable_fails_and_what_was_not_audited_is_said(
    environment: FakeEnvironment, pypi: str, osv: str, code: int, expected: str
) -> None:
    environment.pip_audit({"pypi": pypi, "osv": osv or "not asked"})
    done = environment.check()
    assert done.returncode == code, done.stdout + done.stderr
    assert expected in done.stdout + done.stderr
    assert ("were audited" in done.stdout) != ("NOTHING WAS AUDITED" in done.stderr)


def test_without_pip_audit_it_says_so(environment: FakeEnvironment) -> None:
    done = environment.check()
    assert (done.returncode, "pip-audit is not installed: NOTHING WAS AUDITED" in done.stderr) == (0, True)
