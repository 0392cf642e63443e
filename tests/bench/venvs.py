"""Other people's programs in virtualenvs of their own, kept between runs, never among our extras."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from tests.bench import progress

PATIENCE = 300
_WHOLE = "whole"


def installed(name: str, requirements: Sequence[str]) -> Path | None:
    """The ``bin`` directory of a virtualenv with these requirements, made at the first time.

    None, said to whoever watches, where they cannot be installed.
    """
    wanted = "\n".join([sys.version, *requirements])
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    place = platformdirs.user_cache_path("settings-ledger-bench") / f"{name}-{digest}"
    programs = place / "bin"
    if (place / _WHOLE).exists():
        return programs
    progress.note(f"Installing {name} into {place}, this once.")
    try:
        shutil.rmtree(place, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(place))
        _run(str(programs / "python"), "-m", "pip", "install", "--quiet", *requirements)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        reason = said.strip().splitlines()[-1:]
        progress.note(f"{name} is left out: it cannot be installed ({' '.join(reason)}).")
        return None
    (place / _WHOLE).touch()
    return programs


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
