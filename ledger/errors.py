"""Every error the ledger raises.

The tree::

    LedgerError
    ├── InvalidSettings        the patch broke rules; carries one violation per field
    ├── InvalidInput           an argument or option is wrong; names it
    ├── NotFound               no such site, kind, app, key, …
    ├── AlreadyExists          the id is taken
    │   └── IdempotencyConflict   the same Idempotency-Key came with another request
    ├── VersionMismatch        If-Match named another version
    ├── Unauthenticated        no credential, or one that does not hold
    ├── PermissionDenied       the credential does not allow this
    ├── NotInstalled           the app is no longer installed on the site
    ├── RateLimited            the credential asked too often; try again later
    ├── ConfigError            an option, environment variable or file is unusable
    │   ├── SchemaOutdated     the database needs `settings-ledger migrate`
    │   └── EmbeddedServerError   the embedded server cannot be started
    ├── ChangeRefused          the database refused to record this one change
    ├── Unavailable            surely not recorded; try again later
    │   └── DatabaseUnavailable   no connection to the database
    ├── OutcomeUnknown         may or may not be recorded; repeat with the same key
    ├── UnknownTopic           a stored event is of a type this program does not know
    └── LedgerCorrupt          the log contradicts itself

No HTTP in here: the web package holds the table from these to statuses.
A message is a whole sentence for a user, without secrets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

MOST_TOLD = 10
"""Violations that a message spells out; all of them are in the error."""


class LedgerError(Exception):
    """Base of every error in this tree."""


@dataclasses.dataclass(frozen=True)
class Violation:
    """One broken rule of one field, in the words of the Wix contract.

    ``field`` is the dotted path as the caller sent it (with the wrapper), ``rule`` is a
    ``violatedRule`` such as ``INVALID_ENUM_VALUE``, ``data`` what a program can use.
    """

    field: str
    description: str
    rule: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class InvalidSettings(LedgerError):
    """The patch broke rules; ``violations`` names every field once."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        told = [f"{v.field}: {v.description}" for v in self.violations[:MOST_TOLD]]
        if len(self.violations) > MOST_TOLD:
            told.append(f"and {len(self.violations) - MOST_TOLD} more")
        super().__init__("; ".join(told))


class InvalidInput(LedgerError):
    """An argument is wrong: ``name`` says which, the message what was expected."""

    def __init__(self, name: str, expected: str) -> None:
        self.name = name
        self.expected = expected
        super().__init__(f"{name}: {expected}")


class NotFound(LedgerError):
    """There is no ``what`` with this ``identifier``."""

    def __init__(self, what: str, identifier: object) -> None:
        self.what = what
        self.identifier = str(identifier)
        super().__init__(f"There is no {what} {identifier}.")


class AlreadyExists(LedgerError):
    """The id is taken."""


class IdempotencyConflict(AlreadyExists):
    """The same Idempotency-Key was used within its life for another request."""


class VersionMismatch(LedgerError):
    """The caller expected one version of the settings and the site has another."""

    def __init__(self, expected: Sequence[int], actual: int) -> None:
        self.expected = tuple(expected)
        self.actual = actual
        wanted = " or ".join(str(version) for version in expected) or "another one"
        super().__init__(f"The settings are at version {actual}, not {wanted}.")


class Unauthenticated(LedgerError):
    """No credential was given, or the one given does not hold."""


class PermissionDenied(LedgerError):
    """The credential holds, and does not allow this."""


class NotInstalled(LedgerError):
    """The app proved who it is, and its installation on the site has ended."""


class RateLimited(LedgerError):
    """The credential used up its requests for now; ``retry_after`` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class ConfigError(LedgerError):
    """An option, environment variable or file cannot be used as it is."""


class SchemaOutdated(ConfigError):
    """The database's schema is not the one this program was written for."""


class EmbeddedServerError(ConfigError):
    """The embedded PostgreSQL server cannot be started or reached."""


class ChangeRefused(LedgerError):
    """The database refused to record this change; nothing was recorded."""


class Unavailable(LedgerError):
    """The change was surely not recorded; ``retry_after`` is in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""


class OutcomeUnknown(LedgerError):
    """The connection broke while recording: the change may or may not be in the log."""


class UnknownTopic(LedgerError):
    """A stored event has a topic that this program does not know; reading stops here."""

    def __init__(self, topic: str, place: str) -> None:
        self.topic = topic
        super().__init__(
            f"The event at {place} has the unknown topic {topic!r}: "
            "it was written by a newer program. Upgrade before reading on."
        )


class LedgerCorrupt(LedgerError):
    """Stored facts contradict each other; ``place`` says where."""

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"{place}: {problem}")
