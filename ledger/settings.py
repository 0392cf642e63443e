"""What a kind of settings is: its fields, defaults, and what a patch does to them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from ledger import timestamps
from ledger.canonical import printable, reject_uncanonical
from ledger.errors import InvalidSettings, Violation

if TYPE_CHECKING:
    from datetime import datetime

UnknownFields = Literal["refuse", "ignore"]

READ_ONLY_FIELDS = ("createdDate", "updatedDate")
"""Set by the server on every kind; accepted in a patch and left out of it (wire contract)."""


class SettingsModel(BaseModel):
    """Base of a kind's fields: camelCase on the wire, strict types, every field with a default."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, strict=True, extra="forbid", frozen=True
    )


@dataclass(frozen=True)
class _Leaf:
    adapter: TypeAdapter[Any]
    default: Any


@dataclass(frozen=True)
class _Branch:
    fields: Mapping[str, _Leaf | _Branch]
    default: dict[str, Any]


# pydantic's error types on the left, the contract's `violatedRule` on the right; FORMAT otherwise.
_RULES = {
    "literal_error": "INVALID_ENUM_VALUE",
    "enum": "INVALID_ENUM_VALUE",
    "missing": "REQUIRED_FIELD",
    "extra_forbidden": "FIELD_NOT_ALLOWED",
    "greater_than": "MIN",
    "greater_than_equal": "MIN",
    "less_than": "MAX",
    "less_than_equal": "MAX",
    "string_too_short": "MIN_LENGTH",
    "string_too_long": "MAX_LENGTH",
    "too_short": "MIN_SIZE",
    "too_long": "MAX_SIZE",
}
_SUBJECT = re.compile(r"^(Value error, |(\w+ )?should )")


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
        """Raise TypeError for a model that cannot be served, where it is declared."""
        self.defaults()

    @property
    def event_type(self) -> str:
        """The name that a subscription asks for, such as ``wix.ecom.v1.orders_settings_updated``."""
        return f"{self.fqdn}_{self.event_slug}"

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that allows reading, and receiving the event."""
        return self.manage_scopes | self.read_scopes

    @cached_property
    def _root(self) -> _Branch:
        return _branch_of(self.model)

    def defaults(self) -> dict[str, Any]:
        """The settings of a new site, whole."""
        defaults: dict[str, Any] = _copy(self._root.default)
        return defaults

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
        accepted = _validate(self._root, patch, self.wrapper, violations, unknown_fields)
        if violations:
            raise InvalidSettings(violations)
        return accepted

    def merge(self, settings: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` with a validated ``patch`` laid over: objects merge, null resets.

        Keys that this program does not know stay as they are.
        """
        return _merge(self._root, settings, patch)

    def reply(
        self, settings: Mapping[str, Any], created: datetime, updated: datetime
    ) -> dict[str, Any]:
        """The settings as the wire shows them, without the wrapper, with the read-only dates.

        In the order in which the kind declares its fields, as the seeds show them.
        """
        ordered = [name for name in self._root.fields if name in settings]
        ordered += [name for name in settings if name not in self._root.fields]
        shown = {
            name: settings[name]
            for name in ordered
            if name not in self.hidden_at_default or settings[name] != self._root.default.get(name)
        }
        dates = (timestamps.wire(created), timestamps.wire(updated))
        return shown | dict(zip(READ_ONLY_FIELDS, dates, strict=True))


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What differs, leaf by leaf: ``{"dotted.path": {"from": …, "to": …}}``.

    ``from`` or ``to`` is absent where there was or is no value.
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    changes: dict[str, dict[str, Any]] = {}
    for path in sorted(old.keys() | new.keys()):
        ends = {end: values[path] for end, values in (("from", old), ("to", new)) if path in values}
        if len(ends) < 2 or not same_value(ends["from"], ends["to"]):
            changes[path] = ends
    return changes


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; to Python True == 1 == 1.0, also within a list."""
    if isinstance(one, bool | str):
        return type(one) is type(other) and bool(one == other)
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _branch_of(model: type[BaseModel]) -> _Branch:
    fields: dict[str, _Leaf | _Branch] = {}
    for name, info in model.model_fields.items():
        wire_name = info.alias or name
        if "." in wire_name or not wire_name.isascii():
            message = f"{model.__name__}.{name}: a field name must be ASCII without dots"
            raise TypeError(message)
        if info.is_required():
            message = f"{model.__name__}.{name} needs a default: a new site starts with it"
            raise TypeError(message)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            fields[wire_name] = _branch_of(info.annotation)
        else:
            annotation: Any = info.annotation
            for constraint in info.metadata:
                annotation = Annotated[annotation, constraint]
            adapter = TypeAdapter(annotation, config=ConfigDict(strict=True))
            default = adapter.dump_python(info.get_default(call_default_factory=True), mode="json")
            try:
                reject_uncanonical(default)
            except ValueError as error:
                message = f"the default of {model.__name__}.{name} cannot be stored: {error}"
                raise TypeError(message) from None
            fields[wire_name] = _Leaf(adapter, default)
    return _Branch(fields, {name: entry.default for name, entry in fields.items()})


def _validate(
    branch: _Branch,
    patch: object,
    path: str,
    violations: list[Violation],
    unknown_fields: UnknownFields,
) -> dict[str, Any]:
    if not isinstance(patch, Mapping):
        violations.append(Violation(path, "must be an object", "FORMAT"))
        return {}
    accepted: dict[str, Any] = {}
    for name, value in patch.items():
        place = f"{path}.{printable(str(name))}"
        entry = branch.fields.get(name)
        if entry is None:
            if unknown_fields == "refuse":
                known = ", ".join(branch.fields)
                violations.append(
                    Violation(place, f"is not a field here; known are {known}", "FIELD_NOT_ALLOWED")
                )
        elif value is None:
            accepted[name] = None
        elif isinstance(entry, _Branch):
            accepted[name] = _validate(entry, value, place, violations, unknown_fields)
        else:
            _accept_leaf(entry, name, value, place, accepted, violations)
    return accepted


def _accept_leaf(
    leaf: _Leaf,
    name: str,
    value: object,
    place: str,
    accepted: dict[str, Any],
    violations: list[Violation],
) -> None:
    try:
        accepted[name] = leaf.adapter.dump_python(leaf.adapter.validate_python(value), mode="json")
        reject_uncanonical(accepted[name])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        rule = _RULES.get(first["type"], "FORMAT")
        if rule == "INVALID_ENUM_VALUE" and type(value) is not type(leaf.default):
            rule = "FORMAT"
        context = {key: item for key, item in first.get("ctx", {}).items() if key != "error"}
        description = _SUBJECT.sub(lambda said: "must " if said[2] else "", first["msg"])
        violations.append(Violation(place, description, rule, context))
    except ValueError as error:
        violations.append(Violation(place, str(error), "FORMAT"))


def _merge(
    branch: _Branch | _Leaf | None, settings: Mapping[str, Any], patch: Mapping[str, Any]
) -> dict[str, Any]:
    merged: dict[str, Any] = _copy(settings)
    fields = branch.fields if isinstance(branch, _Branch) else {}
    for name, value in patch.items():
        entry = fields.get(name)
        if value is None:
            if entry is not None:
                merged[name] = _copy(entry.default)
        elif isinstance(value, Mapping) and isinstance(entry, _Branch):
            merged[name] = _merge(entry, merged.get(name, entry.default), value)
        else:
            merged[name] = _copy(value)
    return merged


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
