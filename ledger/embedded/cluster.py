"""PostgreSQL's data directory: made whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from ledger.embedded.account import Account
from ledger.embedded.place import Place
from ledger.embedded.wheel import major_version
from ledger.errors import EmbeddedServerError

OWNER = "ledger_owner"
"""The role that owns the database and everything in it, and migrates it."""
SERVER = "ledger_server"
"""The role that serves: it can do what migrations grant it, and cannot alter the log."""
DATABASE = "ledger"

SPACE_TO_CREATE = 100
"""Megabytes: what a new database takes, and room for its first log files."""

# `trust` within, because the door is outside: the server listens on one socket, in a directory
# that only its owner can enter. A password would lie in a file beside it.
_INITDB = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
    # Synchronised once, below, when everything is there.
    "--no-sync",
)
# Written to postgresql.conf, where an operator can change them.
_SETTINGS = (
    "shared_buffers=128MB",
    "max_connections=200",
    "max_wal_size=1GB",
    "timezone=UTC",
    "log_timezone=UTC",
    # What people write as reasons must not end up in a text log.
    "log_min_error_statement=panic",
)
_COMPLAINT = re.compile(r"No space left|free disk space|ERROR:|FATAL:|PANIC:|error:")
# One statement a line, as single-user mode reads them.
_ROLES = f"""\
CREATE ROLE {OWNER} LOGIN
CREATE ROLE {SERVER} LOGIN
CREATE DATABASE {DATABASE} OWNER {OWNER}
REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC
GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {SERVER}
"""


def ensure_cluster(place: Place, account: Account, hold: int) -> None:
    """Have the data directory there, of the right version, owned by the account.

    ``hold`` is the descriptor of the server's lock, inherited by every program started here.
    Raises EmbeddedServerError.
    """
    if place.cluster.exists():
        _check_version(place.cluster, account)
        account.take(place.cluster)
        return
    place.need_space(SPACE_TO_CREATE)
    place.write_state(doing="Creating the embedded PostgreSQL database")
    unfinished = place.cluster.with_suffix(".new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    place.give(unfinished)
    account.take(unfinished)
    settings = [argument for setting in _SETTINGS for argument in ("--set", setting)]
    _run(account, hold, "initdb", "-D", unfinished, *_INITDB, *settings)
    _run(account, hold, "postgres", "--single", "-D", unfinished, "postgres", text=_ROLES)
    _run(account, hold, "initdb", "-D", unfinished, "--sync-only")
    unfinished.rename(place.cluster)
    _synchronise(place.home)


def _check_version(cluster: Path, account: Account) -> None:
    try:
        made_by = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise EmbeddedServerError(
            f"{cluster} is not a PostgreSQL data directory: move it away, or point "
            "LEDGER_DATA_DIR elsewhere."
        ) from None
    ours = major_version(account.programs)
    if made_by != ours:
        raise EmbeddedServerError(
            f"{cluster} was made by PostgreSQL {made_by} and the installed server is {ours}: "
            "install the version that made it, or dump it there and load it here, or point "
            "LEDGER_DATA_DIR elsewhere."
        )


def _run(
    account: Account, hold: int, program: str, *arguments: str | Path, text: str | None = None
) -> None:
    ended = subprocess.run(
        account.command(program, *arguments),
        input=text or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(hold,),
        check=False,
    )
    # Single-user mode goes on after a failed statement and ends well: its words decide.
    if ended.returncode != 0 or any(word in ended.stdout for word in ("ERROR:", "FATAL:")):
        raise EmbeddedServerError(
            "The embedded PostgreSQL database cannot be created "
            f"({program} failed): {last_lines(ended.stdout)}"
        )


def last_lines(text: str, count: int = 4) -> str:
    """What a program said at its end, as one line: its first complaint and its last lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    complaints = [line for line in lines if _COMPLAINT.search(line)]
    said = dict.fromkeys([*complaints[:1], *lines[-count:]])
    return " / ".join(said) or "it said nothing."


def _synchronise(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
