"""Kinto with its history plugin: the nearest thing that can be installed, on the same PostgreSQL
server, served as it comes (by waitress)."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from psycopg import conninfo

from ledger.orders_settings import ORDERS_SETTINGS
from tests.bench.bench import Bench
from tests.bench.load import HOST
from tests.bench.servers import Served, free_port, program
from tests.bench.venvs import installed

NAME = "Kinto with its history plugin"
REQUIREMENTS = ("kinto[postgresql]>=26,<27", "setuptools<81")
AUTHORIZATION = "Basic " + base64.b64encode(b"bench:bench").decode()
BODIES = tuple(json.dumps({"data": {"createInvoice": value}}) for value in (True, False))

# Its cheapest way to know who calls: no password is hashed.
_CONFIGURATION = """\
[server:main]
use = egg:waitress#main
host = {host}
port = {port}

[app:main]
use = egg:kinto
kinto.includes = kinto.plugins.history
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {url}
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {url}
kinto.cache_backend = kinto.core.cache.memory
kinto.userid_hmac_secret = bench
kinto.bucket_create_principals = system.Authenticated
multiauth.policies = basicauth

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = ERROR
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = plain

[formatter_plain]
format = %(message)s
"""


@contextmanager
def served(bench: Bench, sites: int) -> Iterator[Served | None]:
    """The server with a record for each site; None where it cannot be installed."""
    programs = installed("kinto", REQUIREMENTS)
    if programs is None:
        yield None
        return
    with bench.server.blank_database() as url:
        port = free_port()
        configuration = bench.directory / "kinto.ini"
        configuration.write_text(_CONFIGURATION.format(host=HOST, port=port, url=_url(url)))
        _run(programs, "migrate", configuration)
        command = [str(programs / "kinto"), "start", "--ini", str(configuration)]
        with program(command, port, os.environ) as process:
            doors = [(_made(port, site), AUTHORIZATION) for site in range(sites)]
            yield Served(port, process, doors, BODIES)


def _run(programs: Path, command: str, configuration: Path) -> None:
    subprocess.run(
        [programs / "kinto", command, "--ini", configuration], check=True, capture_output=True
    )


def _made(port: int, site: int) -> str:
    """The path of a site's record, in a bucket of its own.

    In one for all, the history breaks its own unique index on concurrent changes: 500.
    """
    path = f"/v1/buckets/site-{site}"
    for part in ("", "/collections/settings", "/records/orders"):
        path += part
        _put(port, path)
    return path


def _put(port: int, path: str) -> None:
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}",
        json.dumps({"data": ORDERS_SETTINGS.defaults()}).encode(),
        {"Authorization": AUTHORIZATION, "Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request).close()


def _url(url: str) -> str:
    """A psycopg URL as SQLAlchemy spells it; its percent signs doubled for the configuration."""
    given = conninfo.conninfo_to_dict(url)
    where = f"host={quote(str(given['host']))}&port={given['port']}"
    spelt = f"postgresql://{given['user']}@/{given['dbname']}?{where}"
    return spelt.replace("%", "%%")
