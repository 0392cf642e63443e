"""The command that lists the settings kinds."""

from __future__ import annotations

from ledger.cli.output import AsJson, document, show, table


def kinds(as_json: AsJson = False) -> None:
    """List the settings kinds: those that come with this program, and those of LEDGER_KINDS."""
    from ledger.config import load_config
    from ledger.kinds import KINDS, load_kinds

    load_kinds(load_config().kinds)
    if as_json:
        document(
            [
                {
                    "fqdn": kind.fqdn,
                    "path": kind.path,
                    "wrapper": kind.wrapper,
                    "event_type": kind.event_type,
                    "fields": kind.field_paths(),
                    "defaults": kind.defaults(),
                    "read_permission": kind.read_permission,
                    "update_permission": kind.update_permission,
                    "read_scopes": kind.read_scopes,
                    "manage_scopes": kind.manage_scopes,
                }
                for kind in KINDS.values()
            ]
        )
        return
    rows = [
        (kind.fqdn, kind.path, kind.event_type, len(kind.field_paths())) for kind in KINDS.values()
    ]
    show(table(("kind", "path", "event", "fields"), rows))
