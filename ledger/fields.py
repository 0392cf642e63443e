"""The fields of a settings kind as a tree: defaults, checking a patch, laying it over. Pure.

A field whose type is a model is a branch and merges field by field. Every other field is a leaf
and is replaced as a whole, a nullable model (``Image | None``) too. A leaf whose default is None
has no value until somebody sets one: absent means absent, and null takes the value away again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.errors import PydanticUserError

from ledger.canonical import printable, reject_uncanonical
from ledger.errors import InvalidInput, Violation

UnknownFields = Literal["refuse", "ignore"]


class SettingsModel(BaseModel):
    """Base of a kind's fields: camelCase on the wire, strict types, every field with a default."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, strict=True, extra="forbid", frozen=True
    )


class BrokenRule(ValueError):
    """For a model's own validators: ``rule`` is one of the contract's ``violatedRule`` words."""

    def __init__(self, rule: str, description: str) -> None:
        self.rule = rule
        super().__init__(description)


@dataclass(frozen=True)
class Leaf:
    """A field with a value of its own; ``default`` None means that it has none at first."""

    adapter: TypeAdapter[Any]
    default: Any


@dataclass(frozen=True)
class Branch:
    """Fields under one name. One without any value is left out, so ``default`` may be empty."""

    fields: Mapping[str, Leaf | Branch]
    default: dict[str, Any]

    @classmethod
    def of(cls, model: type[BaseModel]) -> Branch:
        """The tree of a model. Raises TypeError for a field that could not be stored or served."""
        fields: dict[str, Leaf | Branch] = {}
        for name, info in model.model_fields.items():
            place, wire_name = f"{model.__name__}.{name}", info.alias or name
            if "." in wire_name or not wire_name.isascii():
                raise TypeError(f"{place}: a field name must be ASCII without dots")
            if info.is_required():
                raise TypeError(f"{place} needs a default: a new site starts with it")
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                fields[wire_name] = cls.of(info.annotation)
            else:
                annotation: Any = info.annotation
                for constraint in info.metadata:
                    annotation = Annotated[annotation, constraint]
                default = info.get_default(call_default_factory=True)
                fields[wire_name] = _leaf(place, annotation, default)
        return cls(
            fields,
            {name: entry.default for name, entry in fields.items() if not _is_absent(entry)},
        )

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The dotted path of every leaf, in the order of declaration."""
        for name, entry in self.fields.items():
            if isinstance(entry, Branch):
                yield from entry.paths(f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    def merge(self, settings: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` with a validated ``patch`` laid over: branches merge, null resets.

        Keys that no field declares stay as they are.
        """
        merged: dict[str, Any] = copied(settings)
        for name, asked in patch.items():
            entry, value = self.fields.get(name), asked
            if entry is not None and asked is None:
                value = entry.default
            elif isinstance(entry, Branch) and isinstance(asked, Mapping):
                value = entry.merge(merged.get(name, entry.default), asked)
            if value is None or (isinstance(entry, Branch) and not value):
                if entry is not None:
                    merged.pop(name, None)
            else:
                merged[name] = copied(value)
        return merged

    def filled(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` in the order of declaration, with defaults for fields that they lack.

        They lack a field where they were recorded before it was declared. Keys that no field
        declares come last.
        """
        full: dict[str, Any] = {}
        for name, entry in self.fields.items():
            value = settings.get(name)
            if isinstance(entry, Branch) and isinstance(value, Mapping):
                full[name] = entry.filled(value)
            elif name in settings:
                full[name] = copied(value)
            elif not _is_absent(entry):
                full[name] = copied(entry.default)
        return full | {name: copied(value) for name, value in settings.items() if name not in full}

    def excerpt(self, settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """The patch that gives other settings the values that these have under a dotted path.

        A leaf without a value becomes null. Raises InvalidInput where there is no such field.
        """
        name, *inner = names
        entry = self.fields.get(name)
        if entry is None or (inner and isinstance(entry, Leaf)):
            here = f"{name} has no fields of its own" if entry else f"there is no {printable(name)}"
            raise InvalidInput("field", f"{here}; known here are {', '.join(self.fields)}")
        value = settings.get(name)
        if isinstance(entry, Leaf):
            return {name: copied(value)}
        within = value if isinstance(value, Mapping) else {}
        if inner:
            return {name: entry.excerpt(within, inner)}
        whole: dict[str, Any] = {}
        for field in entry.fields:
            whole |= entry.excerpt(within, [field])
        return {name: whole}

    def validate(
        self,
        patch: object,
        path: str,
        violations: list[Violation],
        unknown_fields: UnknownFields,
    ) -> dict[str, Any]:
        """The part of ``patch`` that holds; what does not is added to ``violations``."""
        if not isinstance(patch, Mapping):
            violations.append(Violation(path, "must be an object", "FORMAT"))
            return {}
        accepted: dict[str, Any] = {}
        for name, value in patch.items():
            place = f"{path}.{printable(str(name))}"
            entry = self.fields.get(name)
            if entry is None:
                if unknown_fields == "refuse":
                    known = f"is not a field here; known are {', '.join(self.fields)}"
                    violations.append(Violation(place, known, "FIELD_NOT_ALLOWED"))
            elif value is None:
                accepted[name] = None
            elif isinstance(entry, Branch):
                accepted[name] = entry.validate(value, place, violations, unknown_fields)
            else:
                try:
                    accepted[name] = _dumped(entry.adapter, entry.adapter.validate_python(value))
                    reject_uncanonical(accepted[name])
                except ValidationError as error:
                    violations += _violations(error, value, place, entry)
                except ValueError as error:
                    violations.append(Violation(place, str(error), "FORMAT"))
        return accepted


def copied(value: Any) -> Any:
    """A copy of JSON that shares nothing with it."""
    if isinstance(value, dict):
        return {
            name: copied(item) if isinstance(item, dict | list) else item
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def _is_absent(entry: Leaf | Branch) -> bool:
    return entry.default is None or (isinstance(entry, Branch) and not entry.default)


def _leaf(place: str, annotation: Any, default: Any) -> Leaf:
    try:
        adapter, holds_numbers = _type(annotation)
        if holds_numbers:
            raise TypeError(f"{place} may be a float, which the log cannot hold; take int or str")
    except PydanticUserError as error:
        raise TypeError(f"{place} cannot be a field: {error.message}") from None
    value = _dumped(adapter, default)
    try:
        reject_uncanonical(value)
    except ValueError as error:
        raise TypeError(f"the default of {place} cannot be stored: {error}") from None
    return Leaf(adapter, value)


def _type(annotation: Any) -> tuple[TypeAdapter[Any], bool]:
    """What checks values of a type, and whether floats are among them; made once for each type.

    Raises PydanticUserError.
    """
    # To Python A | B is B | A, but which is tried first decides what a value becomes.
    key = (annotation, repr(annotation))
    try:
        known = _types.get(key)
    except TypeError:  # It holds something that has no hash.
        return _made_type(annotation)
    if known is None:
        known = _types[key] = _made_type(annotation)
    return known


_types: dict[tuple[Any, str], tuple[TypeAdapter[Any], bool]] = {}


def _made_type(annotation: Any) -> tuple[TypeAdapter[Any], bool]:
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(strict=True))
    return adapter, _holds_numbers(adapter.json_schema(mode="serialization"))


def _holds_numbers(schema: Any) -> bool:
    """Whether a JSON schema knows numbers that are not integers."""
    if isinstance(schema, Mapping):
        return schema.get("type") == "number" or any(map(_holds_numbers, schema.values()))
    return isinstance(schema, list) and any(map(_holds_numbers, schema))


def _dumped(adapter: TypeAdapter[Any], value: Any) -> Any:
    return adapter.dump_python(value, mode="json", by_alias=True, exclude_none=True)


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


def _violations(error: ValidationError, value: object, place: str, leaf: Leaf) -> list[Violation]:
    """One violation for each place inside ``value`` that breaks a rule."""
    found: dict[str, Violation] = {}
    for problem in error.errors(include_url=False, include_input=False):
        where, culprit = _located(place, value, problem["loc"], problem["type"])
        rule = _RULES.get(problem["type"], "FORMAT")
        if rule == "INVALID_ENUM_VALUE" and not _may_be_enum(culprit, leaf):
            rule = "FORMAT"
        context = dict(problem.get("ctx", {}))
        if isinstance(cause := context.pop("error", None), BrokenRule):
            rule = cause.rule
        description = _SUBJECT.sub(lambda said: "must " if said[2] else "", problem["msg"])
        found.setdefault(where, Violation(where, description, rule, context))
    return list(found.values())


def _may_be_enum(culprit: object, leaf: Leaf) -> bool:
    """Whether a refused value is at least of an enum's JSON type: the default's, else text."""
    if leaf.default is None or isinstance(leaf.default, Mapping | list):
        return isinstance(culprit, str)
    return type(culprit) is type(leaf.default)


def _located(
    place: str, value: object, steps: Iterable[int | str], problem: str
) -> tuple[str, object]:
    """The path of a problem and what stands there.

    pydantic's steps also name members of unions, which are no part of what was sent.
    """
    for step in steps:
        if isinstance(value, Mapping) and step in value:
            place, value = f"{place}.{printable(str(step))}", value[step]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            place, value = f"{place}[{step}]", value[step]
        elif isinstance(value, Mapping) and problem == "missing":
            place, value = f"{place}.{step}", None
    return place, value
