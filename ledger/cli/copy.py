"""The command that copies settings from one site to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ledger.cli.opening import opened
from ledger.cli.options import ORDERS, KindOption
from ledger.cli.output import AsJson, change_lines, complain, document, progress, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger import Ledger
    from ledger.copying import CopiedSite, CopyPlan


def copy_settings(
    source: Annotated[UUID, typer.Option("--from", metavar="SITE", help="Whose values to copy.")],
    names: Annotated[
        list[str],
        typer.Option(
            "--field",
            metavar="NAME",
            help="A field, a part of one (emailNotifications.orderShipped) or a whole object; "
            "repeatable.",
        ),
    ],
    targets: Annotated[
        list[UUID] | None,
        typer.Option("--to", metavar="SITE", help="A site to change; repeatable."),
    ] = None,
    app: Annotated[
        UUID | None,
        typer.Option("--to-all-sites-of", metavar="APP", help="All sites that have this app."),
    ] = None,
    kind: KindOption = ORDERS,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    by_user: Annotated[
        UUID | None,
        typer.Option(help="The WIX_USER who copies; by default this installation's operator."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and record nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy fields of one site's settings to other sites, each for itself.

    A site that fails stops no other: those that failed are listed at the end, and the exit
    status is 1. The change of every site names one origin, and a site that has the values
    already is left alone, so that the command can be repeated.
    """
    if (not targets) == (app is None):
        raise typer.BadParameter("name the sites either by --to or by --to-all-sites-of.")
    from ledger import copying
    from ledger.identity import Identity, Via
    from ledger.kinds import kind_named

    with opened() as ledger:
        wanted = targets or _sites_of(ledger, app)
        with progress("Reading") as tell:
            plan = copying.plan_copy(ledger, kind_named(kind), source, wanted, names, progress=tell)
        if not as_json:
            _show_plan(plan)
        results: list[CopiedSite] = []
        if not dry_run:
            actor = Identity.wix_user(by_user) if by_user else ledger.operator
            via = Via("cli", asserted=by_user is not None)
            with progress("Copying") as tell:
                results = copying.carry_out(
                    ledger, plan, actor=actor, via=via, reason=reason, progress=tell
                )
    if as_json:
        document(_as_document(plan, results))
    elif not dry_run:
        _show_results(plan, results)
    _complain_of_failures(plan, results)


def _sites_of(ledger: Ledger, app: UUID | None) -> list[UUID]:
    from ledger.copying import sites_of_app

    return sites_of_app(ledger.directory, app) if app else []


def _show_plan(plan: CopyPlan) -> None:
    rows = [
        (
            site.site_id,
            site.problem or "\n".join(change_lines(site.changes)) or "has the same already",
        )
        for site in plan.sites
    ]
    title = f"From {plan.source.site_id}, version {plan.source.version}"
    show(table(("site", "change"), rows, title=title))


def _show_results(plan: CopyPlan, results: Sequence[CopiedSite]) -> None:
    said = {"same": "had the same already", "failed": "failed"}
    rows = [
        (result.site_id, said.get(result.result, f"copied, version {result.version}"))
        for result in results
    ]
    show(table(("site", "result"), rows, title=f"Origin {plan.origin}"))


def _complain_of_failures(plan: CopyPlan, results: Sequence[CopiedSite]) -> None:
    """Say on stderr which sites failed, or would, and exit 1; nothing where none did."""
    failed = [(result.site_id, result.error) for result in results if result.error] or [
        (site.site_id, site.problem) for site in plan.sites if site.problem and not results
    ]
    if not failed:
        return
    complain(f"Failed on {len(failed)} of {len(plan.sites)} sites:")
    for site_id, problem in failed:
        complain(f"  {site_id}: {problem}")
    raise typer.Exit(1)


def _as_document(plan: CopyPlan, results: Sequence[CopiedSite]) -> dict[str, Any]:
    found = {result.site_id: result for result in results}
    sites = []
    for site in plan.sites:
        told: dict[str, Any] = {"site_id": site.site_id, "changes": site.changes}
        result = found.get(site.site_id)
        if result is not None:
            told["result"] = result.result
            if result.version is not None:
                told["version"] = result.version
        error = result.error if result else site.problem
        if error is not None:
            told["error"] = error
        sites.append(told)
    return {
        "kind": plan.kind.fqdn,
        "from": plan.source.site_id,
        "from_version": plan.source.version,
        "patch": plan.patch,
        "origin": plan.origin if results else None,
        "dry_run": not results,
        "sites": sites,
    }
