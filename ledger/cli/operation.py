"""Commands that run the house: quickstart, serve, publish, migrate, check."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.opening import log_to_stderr, opened
from ledger.cli.output import AsJson, complain, document, fields, progress, show

if TYPE_CHECKING:
    import asyncio

    from ledger import Ledger
    from ledger.serving import Service

INTERRUPTED = 128 + 2
"""What a command exits with that Ctrl-C kept from doing its job, as shells have it."""

Host = Annotated[str | None, typer.Option(help="Where to listen; by default LEDGER_HOST.")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="By default LEDGER_PORT; 0 takes any free one."),
]


def quickstart(
    once: Annotated[bool, typer.Option("--once", help="End after the story.")] = False,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Do the whole job with a demo site, app, key and receiver; then serve unless --once."""
    from ledger import quickstart as demo
    from ledger.cli import story
    from ledger.serving import run_until_stopped

    # Whoever tries things out is not to be slowed down.
    with opened(rate_limit=0) as ledger:
        service = _demo_service(ledger, port)
        teller = story.Teller(ledger, once=once, as_json=as_json)

        async def job(stop: asyncio.Event) -> bool:
            return await demo.run(
                ledger, service, stop, told=teller.told, heard=teller.heard, once=once
            )

        with closing(service):
            done = run_until_stopped(job, ledger.database)
    if not done:
        raise typer.Exit(INTERRUPTED)


def _demo_service(ledger: Ledger, port: int | None) -> Service:
    """The demo takes the usual port, or any free one where nobody asked for that port."""
    from ledger.quickstart import service_for
    from ledger.serving import PortInUse

    config = ledger.config
    try:
        return service_for(ledger, host="127.0.0.1", port=config.port if port is None else port)
    except PortInUse:
        if port is not None or "port" in config.model_fields_set:
            raise
        complain(f"Port {config.port} is in use, so the demo takes a free one.")
        return service_for(ledger, host="127.0.0.1", port=0)


def serve(
    host: Host = None,
    port: Port = None,
    publish: Annotated[
        bool, typer.Option("--publish/--no-publish", help="Deliver webhooks as well.")
    ] = True,
) -> None:
    """Serve the HTTP API, and deliver webhooks, until Ctrl-C or SIGTERM."""
    from ledger.serving import Service, run_until_stopped

    with opened(host=host, port=port) as ledger:
        log_to_stderr("info", ledger.config.log_format)
        service = Service(ledger, host=ledger.config.host, port=ledger.config.port, publish=publish)

        async def job(stop: asyncio.Event) -> None:
            await service.run(stop, lambda: show(f"Listening on {service.address}"))

        run_until_stopped(job, ledger.database)


def publish(
    grace: Annotated[
        float,
        typer.Option(
            min=0, max=15, metavar="SECONDS", help="What requests in flight get at the end."
        ),
    ] = 10.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Serve /metrics there, on this machine; by default LEDGER_METRICS_PORT.",
        ),
    ] = None,
) -> None:
    """Deliver webhooks, without the HTTP API, until Ctrl-C or SIGTERM.

    It then sends nothing more, waits for the answers to what it has sent, writes down how far
    it got, and leaves the rest to other processes at once.
    """
    from ledger.serving import PublishingService, run_until_stopped

    with opened(metrics_port=metrics_port) as ledger:
        log_to_stderr("info", ledger.config.log_format)
        with closing(PublishingService(ledger, grace=grace)) as service:
            if service.metrics_address is not None:
                show(f"Metrics on {service.metrics_address}")
            run_until_stopped(service.run, ledger.database)


def migrate(
    partitions: Annotated[
        int | None,
        typer.Option(min=1, help="How many partitions new sites are spread over; only ever more."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to this program.

    It connects as LEDGER_MIGRATION_URL, else LEDGER_DATABASE_URL, else to the embedded server.
    """
    from ledger.assembly import migrate_database
    from ledger.config import load_config

    log_to_stderr()
    done = migrate_database(load_config(), partitions=partitions)
    if as_json:
        document({"applied": done.applied, "partitions": done.partitions})
        return
    show("\n".join(f"Applied {name}." for name in done.applied) or "No migration to apply.")
    one = done.partitions == 1
    show("There is 1 partition." if one else f"There are {done.partitions} partitions.")


def check(as_json: AsJson = False) -> None:
    """Refold the whole log and compare it with the settings that are served.

    Positions, versions, the chain of hashes, the settings in events, kept names and reasons,
    and the current settings. Exits 1 and names the first fault where there is one. The rows of
    the history are compared by `projections check`.
    """
    with opened() as ledger, progress("checking the log") as advance:
        report = ledger.verify(advance)
    found = {"events": report.events, "sites": report.sites}
    if as_json:
        document({"ok": report.fault is None, **found, "fault": report.fault})
    elif report.fault is None:
        show(fields(found), "\nThe log is whole, and what is served follows from it.")
    if report.fault is not None:
        complain(report.fault)
        raise typer.Exit(1)
