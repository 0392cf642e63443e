"""Commands for what follows the log: project, and status, rebuild and check of projections."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.opening import log_to_stderr, opened
from ledger.cli.output import AsJson, complain, document, examples, progress, show, table

if TYPE_CHECKING:
    import asyncio

projection_commands = typer.Typer(
    no_args_is_help=True, help="Projections: tables that follow the log and answer reads."
)


def project() -> None:
    """Follow the log with every projection, without the HTTP API, until Ctrl-C or SIGTERM.

    `serve` does the same; of several, one follows each partition and the others stand by.
    """
    from ledger import serving

    with opened() as ledger:
        log_to_stderr("info")

        async def job(stop: asyncio.Event) -> None:
            show("Following the log")
            await serving.project(ledger, stop)

        serving.run_until_stopped(job, ledger.database)


@projection_commands.command("status", epilog=examples("projections status"))
def show_status(as_json: AsJson = False) -> None:
    """Show how far each projection is behind the log."""
    with opened() as ledger:
        found = ledger.projections.status()
    if as_json:
        document([asdict(row) for row in found])
        return
    kept = {None: "with the log", True: "yes", False: "nobody: reads catch up"}
    rows = [
        (
            row.name,
            row.partition,
            f"{row.position} of {row.head}",
            f"{row.lag_events} events, {row.lag_seconds:.1f} s" if row.lag_events else "none",
            kept[row.followed],
        )
        for row in found
    ]
    show(table(("projection", "partition", "position", "lag", "followed"), rows))


@projection_commands.command("rebuild", epilog=examples("projections rebuild settings_history"))
def rebuild(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `projections status` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Make a projection anew from the log, beside the old one, which answers meanwhile.

    It connects as the owner of the tables: LEDGER_MIGRATION_URL, or the embedded server's.
    """
    with opened() as ledger, progress(f"Rebuilding {name}") as tell:
        rebuilt = ledger.projections.rebuild(name, tell)
    if as_json:
        document({"name": name, "events": rebuilt.events, "seconds": round(rebuilt.seconds, 3)})
    else:
        show(f"Rebuilt {name} from {rebuilt.events} events in {rebuilt.seconds:.1f} s.")


@projection_commands.command("check", epilog=examples("projections check"))
def check(as_json: AsJson = False) -> None:
    """Compare every projection with the fold of the log; exits 1 and names the first difference."""
    with opened() as ledger, progress("Checking") as tell:
        found = ledger.projections.check(tell)
    faults = [(row, row.fault) for row in found if row.fault is not None]
    if as_json:
        document({"ok": not faults, "projections": [asdict(row) for row in found]})
    else:
        rows = [(row.name, row.partition, row.events, row.fault or "as the log") for row in found]
        show(table(("projection", "partition", "events", "is"), rows))
    if faults:
        row, fault = faults[0]
        complain(f"{row.name} is not what the log gives: {fault}")
        raise typer.Exit(1)
