"""The README's program for the SDK, run as it stands against a ledger that serves and publishes."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from publishing import LOOPBACK

from ledger.serving import Service

README = Path(__file__).parents[2] / "README.md"
SCOPE = "SCOPE.DC-STORES.MANAGE-ORDERS"


@contextmanager
def serving(ledger):
    """The API and the publisher, as ``serve`` runs them: the address."""
    service = Service(ledger, host="127.0.0.1", port=0, allowed_networks=LOOPBACK)
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(service.run(stop, ready.set)), daemon=True
    )
    thread.start()
    assert ready.wait(30)
    try:
        yield service.address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        service.close()
        loop.close()


@pytest.fixture
def program():
    """The README's code block."""
    text = README.read_text(encoding="utf-8")
    section = re.search(
        r"^## Use it with the Wix SDK\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert section, "README.md has no section “Use it with the Wix SDK”"
    [block] = re.findall(r"^```js\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    return block


def test_the_readmes_program_runs(node, ledger, program):
    """It reads, changes, and hears of its own change through a verified webhook."""
    site = ledger.create_site()
    app = ledger.directory.create_app("Invoices", [SCOPE])
    installation = ledger.directory.install(app.app_id, site.site_id)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ledger.directory.subscribe(app.app_id, f"http://127.0.0.1:{port}/")
    (node.directory / "readme.mjs").write_text(program)
    with serving(ledger) as address:
        told = {
            "LEDGER_URL": address,
            "APP_ID": str(app.app_id),
            "APP_SECRET": app.app_secret,
            "PUBLIC_KEY": app.public_key_pem,
            "INSTANCE_ID": str(installation.instance_id),
            "PORT": str(port),
        }
        process = subprocess.Popen(
            ["node", str(node.directory / "readme.mjs")],
            env=os.environ | told,
            stdout=subprocess.PIPE,
            text=True,
        )
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        with process:
            assert process.stdout is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            process.kill()
        watchdog.cancel()
    assert re.fullmatch(r"since \d{4}-\S+Z createInvoice is false\n", first)
    assert second == "changed by APP { createInvoice: false } → true\n"
    assert site.settings()["createInvoice"] is True
