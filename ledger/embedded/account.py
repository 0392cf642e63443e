"""As whom the server runs: PostgreSQL refuses root, and root is what many containers offer."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger.embedded.place import Place
from ledger.errors import EmbeddedServerError

# The server leaves with its keeper, in good order: SIGINT is its fast shutdown. Where setpriv
# is missing, the next keeper finds the orphan by its lock and stops it.
_DIE_WITH_KEEPER = ("setpriv", "--pdeathsig", "INT", "--")
# The data directory may lie where only root can go (/root): this capability opens the way, as
# being root would. The server stays within a directory that nobody else can reach.
_PASS_DIRECTORIES = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")


@dataclass(frozen=True)
class Account:
    """How to run a program of PostgreSQL: what to put before it, and who owns its files.

    ``owner`` is a (uid, gid) on disk, None when it is whoever runs the keeper.
    """

    prefix: tuple[str, ...]
    owner: tuple[int, int] | None
    programs: Path

    def command(self, program: str, *arguments: str | Path) -> list[str]:
        """The full command line of one program."""
        return [*self.prefix, str(self.programs / program), *map(str, arguments)]

    def take(self, tree: Path) -> None:
        """Make ``tree`` the account's own, the top last so that a broken attempt is repeated."""
        if os.geteuid() != 0:
            return
        uid, gid = self.owner or (0, os.getegid())
        if tree.stat().st_uid == uid:
            return
        for directory, _, files in os.walk(tree, topdown=False):
            for name in files:
                os.chown(Path(directory) / name, uid, gid, follow_symlinks=False)
            os.chown(directory, uid, gid)


@dataclass(frozen=True)
class _Candidate:
    prefix: tuple[str, ...]
    owner: tuple[int, int] | None
    # The prefix without capabilities: PostgreSQL asks with access(2) whether it can reach
    # itself, and no capability satisfies that.
    bare: tuple[str, ...]


def choose_account(place: Place, programs: Path) -> Account:
    """The first account that works here. Raises EmbeddedServerError when none does."""
    ending = _DIE_WITH_KEEPER if _runs(_DIE_WITH_KEEPER, "true") else ()
    if os.geteuid() != 0 and _named(os.geteuid()):
        return Account(ending, None, programs)
    for candidate in _candidates(place):
        if not _runs(candidate.prefix, "true"):
            continue
        if _runs(candidate.bare, str(programs / "initdb"), "--version"):
            return Account(candidate.prefix + ending, candidate.owner, programs)
        if candidate.owner:
            return Account(candidate.prefix + ending, candidate.owner, _copied(programs))
    if os.geteuid() != 0:  # PostgreSQL will say itself that it wants a name for its user.
        return Account(ending, None, programs)
    raise EmbeddedServerError(
        "PostgreSQL refuses to run as root, and here neither a user namespace (unshare) nor "
        "another account (setpriv) can be used: run as an ordinary user, or set "
        "LEDGER_DATABASE_URL."
    )


def _candidates(place: Place) -> Iterator[_Candidate]:
    nobody = _ordinary_account()
    home = place.cluster if place.cluster.exists() else place.home
    owner = (home.stat().st_uid, home.stat().st_gid)
    if owner[0] == os.geteuid():
        # Root, seen from within as someone else: keeps its way to every directory of its own.
        mapped = (f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
        prefix = ("unshare", "--user", *mapped, "--")
        yield _Candidate(prefix, None, prefix)
        owner = (nobody.pw_uid, nobody.pw_gid)
    if os.geteuid() == 0:
        become = ("setpriv", f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups")
        bare = (*become, "--")
        yield _Candidate((*become, *_PASS_DIRECTORIES, "--"), owner, bare)
        yield _Candidate(bare, owner, bare)


def _ordinary_account() -> pwd.struct_passwd:
    """`nobody`, or else any account but root: initdb insists on a name."""
    ordinary = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    for entry in ordinary:
        if entry.pw_name == "nobody":
            return entry
    if not ordinary:
        raise EmbeddedServerError(
            "PostgreSQL refuses to run as root, and /etc/passwd names no other account: add "
            "one, or set LEDGER_DATABASE_URL."
        )
    return ordinary[0]


def _named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _runs(prefix: tuple[str, ...], *command: str) -> bool:
    try:
        return subprocess.run([*prefix, *command], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _copied(programs: Path) -> Path:
    """A copy of the programs where every user can reach them, made once per installation.

    A virtual environment under /root is closed to every account but root's.
    """
    package = programs.parents[1]
    target = copy_of(programs)
    if not _is_roots_own(target):
        fresh = Path(tempfile.mkdtemp(prefix="settings-ledger-", dir="/var/tmp"))
        install = programs.parent.relative_to(package)
        for part in ("bin", "lib", "share"):
            shutil.copytree(programs.parent / part, fresh / package.name / install / part)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        _open_to_all(fresh)
        try:
            fresh.rename(target)
        except OSError:  # Another keeper was faster, or a stranger took the name.
            if not _is_roots_own(target):
                target = fresh
    return target / programs.relative_to(package.parent)


def copy_of(programs: Path) -> Path:
    """Where the copy of these programs goes."""
    version = f"{programs}:{(programs / 'postgres').stat().st_mtime_ns}"
    name = f"settings-ledger-programs-{hashlib.sha256(version.encode()).hexdigest()[:16]}"
    return Path("/var/tmp") / name  # noqa: S108


def _is_roots_own(directory: Path) -> bool:
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return False
    return status.st_uid == 0 and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022


def _open_to_all(tree: Path) -> None:
    for directory, _, files in os.walk(tree):
        Path(directory).chmod(0o755)
        for name in files:
            path = Path(directory) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.parent.name == "bin" else 0o644)
