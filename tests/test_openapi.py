"""The API does what ``/openapi.json`` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from http_server import served

from ledger.assembly import Ledger

SECRET_KEY = "correct-horse-battery-staple-0123456789"
MANAGE = "SCOPE.DC-STORES.MANAGE-ORDERS"
EXCEPTIONS = Path(__file__).parent / "schemathesis.toml"


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_openapi", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            yield ledger


@pytest.mark.slow
def test_schemathesis_finds_nothing(ledger, tmp_path):
    """Whatever is sent, valid or not, is answered as documented: all checks, no 5xx."""
    key = ledger.directory.create_key(ledger.create_site().site_id, [MANAGE]).api_key
    with served(ledger) as url:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(EXCEPTIONS)),
                *("run", f"{url}/openapi.json"),
                *("-H", f"Authorization: {key}"),
                *("--checks", "all", "--max-examples", "20", "--seed", "3"),
                "--generation-database=none",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
