"""start: how long a command takes until it does something, beside a Python that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from ledger import Ledger
from ledger.embedded import EmbeddedServer
from tests.bench.bench import CHECKOUT, Bench
from tests.bench.load import HOST
from tests.bench.measure import Baseline, Comparison, contest
from tests.bench.server import wait_for_the_end
from tests.bench.servers import free_port

MOST_FOR_HELP = 0.3
NOTHING = "python -c pass"
PATIENCE = 60.0
_PAUSE = 0.005
_PASS = (sys.executable, "-c", "pass")
_LEDGER = (sys.executable, "-m", "ledger")


def run(bench: Bench) -> Iterator[Comparison]:
    """Compare processor time of --help, and time until there is an answer otherwise."""
    data_dir = bench.directory / "data"
    env = _installed(bench.directory) | {"LEDGER_DATA_DIR": str(data_dir)}
    with Ledger.open(data_dir=data_dir) as ledger:
        site_id = str(ledger.create_site().site_id)
        get = [*_LEDGER, "settings", "get", "--site", site_id]
        wanted = Baseline(f"wanted: {MOST_FOR_HELP} s", lambda: MOST_FOR_HELP, 1.0)
        for case, command, measured, goals in (
            ("--help, CPU s", [*_LEDGER, "--help"], processor_seconds, [wanted]),
            ("settings get, s", get, seconds, []),
        ):
            yield from contest(
                "start",
                case,
                ours=partial(measured, command, env),
                baselines=[Baseline(NOTHING, partial(measured, _PASS, env)), *goals],
                rounds=bench.rounds,
                unit=" s",
                smaller_is_better=True,
                warm_up=not bench.smoke,
                peak=lambda: None,
            )
    wait_for_the_end(ledger.database_url)
    yield from contest(
        "start",
        "cold serve to its first 200, s",
        ours=lambda: first_answer(data_dir, env),
        baselines=[Baseline(NOTHING, lambda: seconds(_PASS, env))],
        rounds=bench.rounds,
        unit=" s",
        smaller_is_better=True,
        warm_up=not bench.smoke,
        peak=lambda: None,
    )


def _installed(directory: Path) -> dict[str, str]:
    """The environment of a program whose byte code is kept, as an installed one's is."""
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return env | {"PYTHONPYCACHEPREFIX": str(directory / "bytecode")}


def processor_seconds(command: Sequence[str], env: Mapping[str, str]) -> float:
    """What a program costs the processor, whatever else goes on."""
    process = _started(command, env)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    _expect_success(process)
    return usage.ru_utime + usage.ru_stime


def seconds(command: Sequence[str], env: Mapping[str, str]) -> float:
    """How long a program takes from its start to its end."""
    began = time.perf_counter()
    process = _started(command, env)
    process.wait()
    took = time.perf_counter() - began
    _expect_success(process)
    return took


def first_answer(data_dir: Path, env: Mapping[str, str]) -> float:
    """How long ``serve`` takes until it is ready, its embedded server included."""
    port = free_port()
    began = time.perf_counter()
    process = _started([*_LEDGER, "serve", "--port", str(port)], env)
    try:
        while not _ready(port):
            if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                _expect_success(process)
            time.sleep(_PAUSE)
        took = time.perf_counter() - began
        with EmbeddedServer.open(data_dir) as server:
            url = server.owner_url
    finally:
        process.terminate()
        process.wait()
    wait_for_the_end(url)
    return took


def _ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://{HOST}:{port}/readyz").close()
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def _started(command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env=env, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _expect_success(process: subprocess.Popen[bytes]) -> None:
    if process.returncode != 0:
        message = f"{process.args!r} ended with status {process.returncode}"
        raise RuntimeError(message)
