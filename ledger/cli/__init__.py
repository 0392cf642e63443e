"""The command line ``settings-ledger``: it asks, shows and decides nothing.

Modules that take long to import are imported inside commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys

import typer

from ledger.cli.apps import app_commands
from ledger.cli.audit import export, replay, search
from ledger.cli.copy import copy_settings
from ledger.cli.deadletters import deadletter_commands
from ledger.cli.history import blame, diff, history, show_settings
from ledger.cli.kinds import kinds
from ledger.cli.operation import check, migrate, publish, quickstart, serve
from ledger.cli.output import complain, examples
from ledger.cli.projections import project, projection_commands
from ledger.cli.publishing import deliveries, publisher_commands
from ledger.cli.settings import settings_commands
from ledger.cli.sites import key_commands, site_commands
from ledger.cli.subscriptions import subscription_commands
from ledger.cli.undo import restore, revert
from ledger.errors import LedgerError

app = typer.Typer(
    name="settings-ledger",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A site's eCommerce settings, and the memory of every change.",
    epilog=examples("quickstart", "COMMAND --help"),
)

app.command(epilog=examples("quickstart", "quickstart --once --json"))(quickstart)
app.command(epilog=examples("serve", "serve --host 0.0.0.0 --port 8080 --no-publish"))(serve)
app.command(epilog=examples("publish"))(publish)
app.command(epilog=examples("migrate", "migrate --partitions 4"))(migrate)
app.add_typer(site_commands, name="site")
app.add_typer(app_commands, name="app")
app.add_typer(key_commands, name="key")
app.add_typer(subscription_commands, name="subscription")
app.add_typer(deadletter_commands, name="deadletters")
app.command(epilog=examples("deliveries SITE", "deliveries SUBSCRIPTION --limit 5 --json"))(
    deliveries
)
app.add_typer(publisher_commands, name="publisher")
app.add_typer(settings_commands, name="settings")
settings_commands.command(
    "copy",
    epilog=examples(
        "settings copy --from SITE --to SITE --to SITE \\\n    --field inventoryUpdateTrigger",
        "settings copy --from SITE --to-all-sites-of APP \\\n    --field emailNotifications --dry-run",
    ),
)(copy_settings)
app.command(epilog=examples("kinds", "kinds --json"))(kinds)
app.command(
    epilog=examples(
        "history SITE",
        "history SITE --since '2 days ago' --field createInvoice",
        "history SITE --by USER --json",
    )
)(history)
app.command(
    "show", epilog=examples("show SITE", "show SITE --at '2 days ago'", "show SITE --version 3")
)(show_settings)
app.command(
    epilog=examples("diff SITE@v3", "diff SITE@v3 SITE@v5", "diff 'SITE@2 days ago' OTHER_SITE")
)(diff)
app.command(epilog=examples("blame SITE", "blame SITE --at v12"))(blame)
app.command(
    epilog=examples(
        "restore SITE --version 3 --dry-run",
        "restore SITE --at '2 days ago' \\\n    --reason 'The import was wrong'",
    )
)(restore)
app.command(epilog=examples("revert SITE 12 --dry-run", "revert SITE 12 --reason 'Not agreed'"))(
    revert
)
app.command(
    epilog=examples(
        "search --by USER --since '1 week ago'",
        "search --field createInvoice --value true",
        "search --origin restore --text import",
    )
)(search)
app.command(
    epilog=examples("export --out changes.ndjson", "export --format parquet --out changes.parquet")
)(export)
app.command(epilog=examples("replay --site SITE", "replay --from-position 1000 --json"))(replay)
app.command(epilog=examples("project"))(project)
app.add_typer(projection_commands, name="projections")
app.command(epilog=examples("check", "check --json"))(check)


def main() -> None:
    """Run a command. Exits 0 when it did its job, 1 with a sentence on stderr, 2 when misused."""
    try:
        app()
    except LedgerError as error:
        complain(str(error))
    except BrokenPipeError:
        # Who read our output went away; Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        complain(
            f"This is a bug in settings-ledger: {type(error).__name__}: {error} "
            "(PYTHONDEVMODE=1 shows where)."
        )
    else:
        return
    sys.exit(1)
