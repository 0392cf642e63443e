"""Which addresses may receive: the public internet over HTTPS, and networks that are listed."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from ledger.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")

# Special-purpose networks that some Pythons call global: protocol assignments (a cloud keeps its
# metadata service in there), a site's own NAT64, and the old site-local addresses.
_NEVER_PUBLIC: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("fec0::/10"),
)

LOOKUPS_AT_ONCE = 32

ENCRYPTED = {"http": False, "https": True, "nats": False, "tls": True}
"""The schemes of receivers' URLs, and whether nobody on the way can read along."""

NATS = frozenset({"nats", "tls"})
NATS_EXTRA = "needs an extra: pip install 'settings-ledger[nats]'"


class ReceiverRefused(OSError):
    """The receiver's address is one that this program does not call."""


class Guard:
    """Judges addresses. ``allowed_networks`` may be called though private, and without TLS."""

    def __init__(self, allowed_networks: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed_networks)

    def refusal(self, address: Address, *, encrypted: bool) -> str | None:
        """Why ``address`` may not be called; None where it may."""
        forms = tuple(_forms(address))
        if any(forms[0] in network for network in self._allowed):
            return None
        if not all(_is_public(form) for form in forms):
            return f"{address} is not a public address and in none of the allowed networks"
        if not encrypted:
            return f"{address} is in none of the allowed networks, so https:// is required"
        return None

    def socket_for(self, info: AddrInfoType, *, encrypted: bool) -> socket.socket:
        """A socket for the address about to be connected; aiohttp asks just before it connects.

        The address judged is the address called: no name is looked up in between. Raises
        ReceiverRefused.
        """
        family, kind, protocol, _, place = info
        refusal = self.refusal(_address(str(place[0])), encrypted=encrypted)
        if refusal is not None:
            raise ReceiverRefused(refusal)
        return socket.socket(family=family, type=kind, proto=protocol)


class GuardedResolver(AbstractResolver):
    """Looks names up and keeps of their addresses those that may be called."""

    def __init__(self, guard: Guard, *, encrypted: bool) -> None:
        self._guard = guard
        self._encrypted = encrypted
        self._slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The name's addresses that may be called. Raises ReceiverRefused where none may."""
        async with self._slots:
            infos = await _look_up(host, port, family)
        refusals: list[str] = []
        results: list[ResolveResult] = []
        for info in infos:
            text = str(info[4][0])
            refusal = self._guard.refusal(_address(text), encrypted=self._encrypted)
            if refusal is None:
                results.append(_result(host, port, info))
            else:
                refusals.append(refusal)
        if not results:
            raise ReceiverRefused("; ".join(dict.fromkeys(refusals)) or "the name has no address")
        return results

    async def close(self) -> None:
        """Nothing to release."""


def check_url(url: str, allowed_networks: Sequence[Network]) -> None:
    """Raise InvalidInput for a receiver that would be refused whatever its name resolves to.

    Looks nothing up: names are judged when they are called. What stands behind the host is
    the directory's to check.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput("url", "expected a port from 1 to 65535") from None
    if parts.scheme not in ENCRYPTED or not host or port == 0:
        raise InvalidInput("url", "expected http(s)://host[:port][/path], or nats:// or tls://")
    if parts.scheme in NATS and not nats_is_installed():
        raise InvalidInput("url", f"{parts.scheme}:// {NATS_EXTRA}")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("url", "expected no user or password in it")
    encrypted = ENCRYPTED[parts.scheme]
    if not encrypted and not allowed_networks:
        wanted = "tls" if parts.scheme in NATS else "https"
        raise InvalidInput("url", f"expected {wanted}:// (LEDGER_ALLOWED_NETWORKS is empty)")
    try:
        address = _address(host)
    except ValueError:
        return
    if (refusal := Guard(allowed_networks).refusal(address, encrypted=encrypted)) is not None:
        raise InvalidInput("url", f"{refusal} (LEDGER_ALLOWED_NETWORKS)")


def nats_is_installed() -> bool:
    """Whether the library is there that speaks NATS."""
    return importlib.util.find_spec("nats") is not None


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _NEVER_PUBLIC)
    )


def _forms(address: Address) -> Iterator[Address]:
    """The address itself first, then every IPv4 address that it may lead to."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if (mapped := address.ipv4_mapped) is not None:
        # Python calls ::ffff:0:0/96 reserved whatever it holds; what counts is what it holds.
        yield mapped
        return
    yield address
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


async def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[Any]:
    """Ask the system, in a thread of its own.

    A name that never resolves must neither use up the threads that others wait for nor keep
    the process from ending, as a pool's threads would.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any]] = loop.create_future()

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            tell(found.set_exception, error)
        else:
            tell(found.set_result, infos)

    def tell(settle: Callable[[Any], None], value: object) -> None:
        def unless_given_up() -> None:
            if not found.done():
                settle(value)

        with suppress(RuntimeError):  # The loop is gone.
            loop.call_soon_threadsafe(unless_given_up)

    Thread(target=ask, name="settings-ledger lookup", daemon=True).start()
    return await found


def _result(host: str, port: int, info: Any) -> ResolveResult:
    family, _, protocol, _, place = info
    return ResolveResult(
        hostname=host,
        host=str(place[0]),
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
