"""What tests about credentials share: a clock to set, and doors onto a real directory."""

from __future__ import annotations

from ledger.secrets import Keyring

SECRET_KEY = "correct-horse-battery-staple-0123456789"
KEYRING = Keyring(SECRET_KEY)
MANAGE_ORDERS = "SCOPE.DC-STORES.MANAGE-ORDERS"
READ_ORDERS = "SCOPE.DC-STORES.READ-ORDERS"


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A directory that counts how often it is asked, and can be made to fail."""

    def __init__(self, directory):
        self.directory = directory
        self.asked = 0
        self.failure = None

    def __getattr__(self, name):
        method = getattr(self.directory, name)

        def counted(*args, **keywords):
            self.asked += 1
            if self.failure is not None:
                raise self.failure
            return method(*args, **keywords)

        return counted
