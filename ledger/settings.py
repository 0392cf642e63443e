"""What a kind of settings is: its fields, defaults, and what a patch does to them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ledger import timestamps
from ledger.errors import InvalidInput, InvalidSettings, Violation
from ledger.fields import Branch, BrokenRule, SettingsModel, UnknownFields, copied

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "READ_ONLY_FIELDS",
    "BrokenRule",
    "SettingsKind",
    "SettingsModel",
    "UnknownFields",
    "changes_between",
    "same_value",
]

READ_ONLY_FIELDS = ("createdDate", "updatedDate")
"""Set by the server on every kind; accepted in a patch and left out of it (wire contract)."""

_ABSENT = object()

# What is named in URLs, bodies, event types and logs stays in plain ASCII.
_FORMS = {
    "fqdn": re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", re.ASCII),
    "wrapper": re.compile(r"[a-z][A-Za-z0-9]*", re.ASCII),
    "path": re.compile(r"(/[a-z0-9][a-z0-9._~-]*)+", re.ASCII),
    "event_slug": re.compile(r"[a-z][a-z0-9_]*", re.ASCII),
    "read_permission": re.compile(r"[A-Z][A-Z0-9_.-]*", re.ASCII),
    "update_permission": re.compile(r"[A-Z][A-Z0-9_.-]*", re.ASCII),
}
_SCOPE = re.compile(r"[A-Z][A-Z0-9_.-]*", re.ASCII)


@dataclass(frozen=True)
class SettingsKind:
    """One type of settings, named by its FQDN. All that differs between kinds is in here.

    ``wrapper`` is the object's name in bodies, ``path`` its HTTP path. Holding any of
    ``manage_scopes`` allows reading and updating, any of ``read_scopes`` reading alone.
    Fields in ``hidden_at_default`` are left out of replies while they equal their default.
    """

    fqdn: str
    wrapper: str
    path: str
    model: type[SettingsModel]
    manage_scopes: frozenset[str]
    read_scopes: frozenset[str]
    read_permission: str
    update_permission: str
    event_slug: str = "updated"
    hidden_at_default: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Raise TypeError for what cannot be served or stored, where it is declared."""
        for name, form in _FORMS.items():
            text = getattr(self, name)
            if not isinstance(text, str) or not form.fullmatch(text):
                raise TypeError(f"{name}={text!r} is not of the form {form.pattern}")
        model: object = self.model
        if not isinstance(model, type) or not issubclass(model, SettingsModel):
            raise TypeError(f"model={model!r} is not a class derived from SettingsModel")
        fields = self._root.fields
        for taken in (*READ_ONLY_FIELDS, self.wrapper):
            if taken in fields:
                raise TypeError(f"a field of {self.fqdn} cannot be named {taken}: it is in use")
        if unknown := sorted(self.hidden_at_default - fields.keys()):
            raise TypeError(f"hidden_at_default names no field of {self.fqdn}: {unknown}")
        for name in ("manage_scopes", "read_scopes"):
            scopes = getattr(self, name)
            if not isinstance(scopes, frozenset) or not all(map(_SCOPE.fullmatch, scopes)):
                raise TypeError(f"{name}={scopes!r} is not a frozenset of names of scopes")
        if not self.manage_scopes:
            raise TypeError(f"manage_scopes of {self.fqdn} is empty: nobody could change it")

    @property
    def event_type(self) -> str:
        """The name that a subscription asks for, such as ``wix.ecom.v1.orders_settings_updated``."""
        return f"{self.fqdn}_{self.event_slug}"

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that allows reading, and receiving the event."""
        return self.manage_scopes | self.read_scopes

    @cached_property
    def _root(self) -> Branch:
        return Branch.of(self.model)

    def defaults(self) -> dict[str, Any]:
        """The settings of a new site, whole. A field whose default is None is absent."""
        defaults: dict[str, Any] = copied(self._root.default)
        return defaults

    def field_paths(self) -> list[str]:
        """The dotted path of every field, in the order of declaration."""
        return list(self._root.paths())

    def validate_patch(
        self, patch: object, *, unknown_fields: UnknownFields = "refuse"
    ) -> dict[str, Any]:
        """The patch as it will be recorded: read-only fields left out, everything else checked.

        Raises InvalidSettings with every violation at once, one per field, named as the
        caller sent them (``ordersSettings.createInvoice``).
        """
        if isinstance(patch, Mapping):
            patch = {name: item for name, item in patch.items() if name not in READ_ONLY_FIELDS}
        violations: list[Violation] = []
        accepted = self._root.validate(patch, self.wrapper, violations, unknown_fields)
        if violations:
            raise InvalidSettings(violations)
        return accepted

    def merge(self, settings: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` with a validated ``patch`` laid over: objects merge, null resets.

        Keys that this program does not know stay as they are.
        """
        return self._root.merge(settings, patch)

    def excerpt(self, settings: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
        """The patch that gives other settings the values that these have in some fields.

        A field is a dotted path, a whole object (``emailNotifications``) or a part of one;
        what has no value here is reset there. Raises InvalidInput for an unknown field.
        """
        patch: dict[str, Any] = {}
        for path in fields:
            try:
                patch = _united(patch, self._root.excerpt(settings, path.split(".")))
            except InvalidInput as error:
                raise InvalidInput("field", f"{path}: {error.expected}") from None
        return patch

    def reply(
        self, settings: Mapping[str, Any], created: datetime, updated: datetime
    ) -> dict[str, Any]:
        """The settings as the wire shows them, without the wrapper, with the read-only dates.

        In the order in which the kind declares its fields, as the seeds show them, and with
        the defaults of fields that were declared after the settings were recorded.
        """
        shown = {
            name: value
            for name, value in self._root.filled(settings).items()
            if name not in self.hidden_at_default or value != self._root.default.get(name)
        }
        dates = (timestamps.wire(created), timestamps.wire(updated))
        return shown | dict(zip(READ_ONLY_FIELDS, dates, strict=True))


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What differs, leaf by leaf: ``{"dotted.path": {"from": …, "to": …}}``.

    ``from`` or ``to`` is absent where there was or is no value.
    """
    changes: dict[str, dict[str, Any]] = {}
    _note_changes(before, after, "", changes)
    return changes


def _note_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str, changes: dict[str, Any]
) -> None:
    # What is the same object is the same value: most of it, since a patch names few fields.
    names = before.keys() | after.keys()
    differing = [n for n in names if before.get(n, _ABSENT) is not after.get(n, _ABSENT)]
    for name in sorted(differing):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and old and isinstance(new, dict) and new:
            _note_changes(old, new, f"{prefix}{name}.", changes)
        elif name not in before or name not in after or not same_value(old, new):
            for end, settings in (("from", before), ("to", after)):
                if name in settings:
                    for path, leaf in _leaves({name: settings[name]}, prefix):
                        changes.setdefault(path, {})[end] = leaf


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; to Python True == 1 == 1.0, also within a list."""
    if isinstance(one, bool | str):
        return type(one) is type(other) and bool(one == other)
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _united(patch: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Two excerpts of the same settings as one patch."""
    united = dict(patch)
    for name, value in more.items():
        before = united.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            united[name] = _united(before, value)
        else:
            united[name] = value
    return united
