"""What the README says is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import floor_plan
import pytest

from ledger.config import Config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_library_example_runs(tmp_path):
    """The ten lines run as they stand, on an empty data directory."""
    [example] = _blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=ROOT,
        env=dict(os.environ) | {"LEDGER_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    promises = re.findall(r"print\(.*\)  # (.*?)…?$", example, re.MULTILINE)
    assert promises
    assert [promise for promise in promises if promise not in done.stdout] == []
    assert "'createInvoice': {'from': False, 'to': True}} New law" in done.stdout


@pytest.mark.parametrize("part", ["quickstart --once", "pytest"])
def test_there_is_one_command_of_one_line(part):
    """CI takes the two commands from the README: each is one line that makes its environment."""
    [command] = [
        line
        for block in _blocks("sh")
        for line in block.splitlines()
        if line.startswith("python3 -m venv ") and part in line
    ]
    assert "-c .ci/constraints.txt" in command
    assert "command_of_readme" in (ROOT / ".ci" / "run").read_text()


def test_every_option_is_in_the_table():
    """The table of environment variables has each of Config's options, and no other."""
    listed = re.findall(r"^\| `(LEDGER_\w+)` \|", README, re.MULTILINE)
    assert sorted(listed) == sorted(f"LEDGER_{name.upper()}" for name in Config.model_fields)


def test_every_room_is_on_the_floor_plan():
    """The floor plan names every module of the house."""
    [plan] = [block for block in _blocks("text") if "errors" in block and "projections/" in block]
    rooms = {module.room for module in floor_plan.modules(ROOT)} - {"ledger", "__main__"}
    missing = {room for room in rooms if not re.search(rf"\b{room}\b", plan)}
    assert not missing


def test_every_place_named_is_there():
    """What "where do I change …?" points at exists."""
    [section] = re.findall(
        r"^## Where do I change …\?\n(.*?)^## ", README, re.MULTILINE | re.DOTALL
    )
    places = re.findall(r"`((?:ledger|projections|tests|migrations|\.ci)/[\w./-]*)`", section)
    assert len(places) >= 10
    assert [place for place in places if not (ROOT / place).exists()] == []
