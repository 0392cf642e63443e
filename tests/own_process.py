"""The command line within the tests' own process: a hundred calls take seconds, not minutes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from ledger.cli import main


@dataclass(frozen=True)
class OwnProcess:
    """Runs ``settings-ledger`` on one database, and catches what it prints."""

    database_url: str
    secret_key: str
    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of a command."""
        with self.monkeypatch.context() as patch:
            patch.setenv("LEDGER_DATABASE_URL", self.database_url)
            patch.setenv("LEDGER_SECRET_KEY", self.secret_key)
            patch.setattr(sys, "argv", ["settings-ledger", *map(str, arguments)])
            # Whose stderr is captured must not become the logs' for the whole session.
            patch.setattr("ledger.cli.opening.log_to_stderr", lambda *_: None)
            self.capture.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = self.capture.readouterr()
        status = ended.value.code
        return (status if isinstance(status, int) else 0), out, err

    def words(self, *arguments: object) -> str:
        """What a person reads after a command that did its job."""
        status, out, err = self.run(*arguments)
        assert status == 0, err
        return out

    def json(self, *arguments: object) -> Any:
        """The one document that ``--json`` prints."""
        return json.loads(self.words(*arguments, "--json"))

    def refusal(self, *arguments: object, status: int = 1) -> str:
        """The sentence of a command that failed as it should: nothing on stdout."""
        ended, out, err = self.run(*arguments)
        assert (ended, out) == (status, ""), err
        return err.strip()
