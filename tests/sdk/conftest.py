"""The official SDK, installed once, and ledgers that really serve it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from http_server import served

from ledger.assembly import Ledger

HERE = Path(__file__).parent
PATIENCE = 120
SECRET_KEY = "correct-horse-battery-staple-0123456789"


@dataclass(frozen=True)
class Node:
    """Runs the drivers of this directory where the official packages are installed."""

    directory: Path

    def ask(self, driver: str, question: dict[str, Any]) -> dict[str, Any]:
        """One driver's answer to one question."""
        done = subprocess.run(
            ["node", str(self.directory / driver)],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def node(pytestconfig, tmp_path_factory) -> Node:
    """Node with the official packages; a test that needs it is never skipped in CI."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            _do_without(f"{program} is not installed")
    directory = tmp_path_factory.mktemp("sdk")
    (directory / "node_modules").symlink_to(_installed(pytestconfig) / "node_modules")
    for driver in HERE.glob("*.mjs"):
        shutil.copy(driver, directory)
    shutil.copy(HERE / "package.json", directory)
    return Node(directory)


def _do_without(reason: str) -> None:
    sentence = f"THE OFFICIAL SDK WAS NOT TRIED: {reason}"
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(sentence)
    pytest.fail(sentence)


def _installed(config: pytest.Config) -> Path:
    """The packages of package.json, kept between sessions; one of several workers installs."""
    wanted = (HERE / "package.json").read_bytes()
    kept = config.rootpath / ".pytest_cache" / f"sdk-{hashlib.sha256(wanted).hexdigest()[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "installed").exists():
            (kept / "package.json").write_bytes(wanted)
            quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
            done = subprocess.run(
                ["npm", "install", *quiet],
                cwd=kept,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            if done.returncode != 0:
                _do_without(f"npm install failed: {done.stderr.strip()}")
            (kept / "installed").touch()
    return kept


@pytest.fixture(scope="session")
def ledger(postgres, template) -> Iterator[Ledger]:
    with postgres.lent("ledger_sdk", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            yield ledger


@pytest.fixture(scope="session")
def url(ledger) -> Iterator[str]:
    """Where the ledger answers."""
    with served(ledger) as url:
        yield url


@pytest.fixture
def call(node, url) -> Callable[..., list[dict[str, Any]]]:
    """Make calls through the SDK; each result has a ``value`` or an ``error``."""

    def make(auth: dict[str, Any], *calls: list[Any], at: str = url, **question: Any) -> Any:
        asked = {"url": at, "auth": auth, "calls": list(calls), **question}
        return node.ask("calls.mjs", asked)["results"]

    return make
