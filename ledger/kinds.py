"""The settings kinds that this program serves: those it brings, and those of LEDGER_KINDS."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import ModuleType

from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.errors import ConfigError, NotFound
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.permissions import HISTORY_SCOPE
from ledger.settings import SettingsKind

KINDS: dict[str, SettingsKind] = {kind.fqdn: kind for kind in (ORDERS_SETTINGS, CHECKOUT_SETTINGS)}
"""By FQDN, the first one is what a command means that names none. ``load_kinds`` adds to it."""

RESERVED_PATHS = (
    "/.well-known",
    "/docs",
    "/healthz",
    "/ledger",
    "/metrics",
    "/oauth2",
    "/openapi.json",
    "/readyz",
)
"""What the server answers itself; no kind may have such a path, or one below it."""

_loaded: dict[str, tuple[SettingsKind, ...]] = {}
_loading = Lock()


def kind_named(fqdn: str) -> SettingsKind:
    """The kind with this FQDN. Raises NotFound."""
    try:
        return KINDS[fqdn]
    except KeyError:
        raise NotFound("settings kind", fqdn) from None


def known_scopes() -> frozenset[str]:
    """Every scope that some kind knows, and the auditor's."""
    return frozenset({HISTORY_SCOPE}).union(*(kind.scopes for kind in KINDS.values()))


def load_kinds(sources: Iterable[str]) -> None:
    """Declare the kinds that Python files (``shop/loyalty.py``) or modules (``shop.loyalty``) hold.

    All of them or none, for the whole process, and each source once. The code of a source runs
    here: name only what you trust. Raises ConfigError naming the source and what is wrong.
    """
    with _loading:
        found = {source: _kinds_of(source) for source in sources if source not in _loaded}
        declared = dict(KINDS)
        for source, kinds in found.items():
            for kind in kinds:
                _expect_room(kind, declared, source)
                declared[kind.fqdn] = kind
        KINDS.update(declared)
        _loaded.update(found)


def _kinds_of(source: str) -> tuple[SettingsKind, ...]:
    module = _imported(source)
    named = [value for value in vars(module).values() if isinstance(value, SettingsKind)]
    # A file may import a kind to declare another like it; what is served already is not meant.
    kinds = [kind for kind in dict.fromkeys(named) if KINDS.get(kind.fqdn) is not kind]
    if not kinds:
        raise _wrong(source, "it declares no kind; it should hold KIND = SettingsKind(…)")
    return tuple(kinds)


def _imported(source: str) -> ModuleType:
    """Run the source; whatever it raises becomes a sentence that names the line."""
    before = set(sys.modules)
    try:
        if source.endswith(".py") or "/" in source:
            return _run_file(source)
        return importlib.import_module(source)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 – it is somebody else's code
        for name in set(sys.modules) - before:
            if name == source or name.startswith("ledger_kinds_"):
                del sys.modules[name]
        if isinstance(error, ModuleNotFoundError) and error.name == source.partition(".")[0]:
            raise _wrong(source, "there is no such module; a file's name ends in .py") from None
        raise _wrong(source, _told(error)) from None


def _run_file(source: str) -> ModuleType:
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        raise _wrong(source, f"there is no file {path}")
    name = f"ledger_kinds_{sha256(str(path).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _wrong(source, "it is not a Python file; its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    # pydantic looks a model's module up by its name to understand annotations.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _told(error: BaseException) -> str:
    """The error in one line, with the innermost line of a file that is not this program's."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    here = Path(__file__).parent
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if here not in Path(frame.filename).parents
        and not frame.filename.startswith("<")
        and "importlib" not in frame.filename
    ]
    said = str(error).replace("\n", " ") or "no reason given"
    what = said if isinstance(error, TypeError) else f"{type(error).__name__}: {said}"
    return f"line {lines[0]}: {what}" if lines else what


def _expect_room(kind: SettingsKind, declared: dict[str, SettingsKind], source: str) -> None:
    """Raise ConfigError where another kind, or the server itself, has what ``kind`` claims."""
    for prefix in RESERVED_PATHS:
        if kind.path == prefix or kind.path.startswith(f"{prefix}/"):
            raise _wrong(source, f"the path {kind.path} of {kind.fqdn} is the server's own")
    for other in declared.values():
        for name in ("fqdn", "path", "wrapper", "event_type"):
            claimed = getattr(kind, name)
            if claimed == getattr(other, name):
                raise _wrong(
                    source,
                    f"the {name.replace('_', ' ')} {claimed} of {kind.fqdn} is taken by the kind "
                    f"{other.fqdn}",
                )


def _wrong(source: str, problem: str) -> ConfigError:
    return ConfigError(f"LEDGER_KINDS: {source}: {problem.removesuffix('.')}.")
