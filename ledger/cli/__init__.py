"""The command line ``settings-ledger``: it asks, shows and decides nothing.

Modules that take long to import are imported inside commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys

import typer

from ledger.cli.apps import app_commands, subscription_commands
from ledger.cli.copy import copy_settings
from ledger.cli.kinds import kinds
from ledger.cli.operation import check, migrate, publish, quickstart, serve
from ledger.cli.output import complain, examples
from ledger.cli.settings import history, settings_commands
from ledger.cli.sites import key_commands, site_commands
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
app.add_typer(settings_commands, name="settings")
settings_commands.command(
    "copy",
    epilog=examples(
        "settings copy --from SITE --to SITE --to SITE \\\n    --field inventoryUpdateTrigger",
        "settings copy --from SITE --to-all-sites-of APP \\\n    --field emailNotifications --dry-run",
    ),
)(copy_settings)
app.command(epilog=examples("kinds", "kinds --json"))(kinds)
app.command(epilog=examples("history SITE", "history SITE --json"))(history)
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
