"""The courier: signs a letter, and hands it to the sink that its destination asks for."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.certificates import CertificateRack
from ledger.publisher.guard import NATS, NATS_EXTRA, Guard, Network, nats_is_installed
from ledger.publisher.letters import Letter
from ledger.publisher.policy import Policy
from ledger.publisher.sign import KeyRack
from ledger.publisher.signers import Signers
from ledger.publisher.sink import Destination, Outcome, Parcel, Sink
from ledger.publisher.sinks.http import HttpSink

_NO_MARKS: Mapping[str, str] = {}
_HEADERS = {"Content-Type": "text/plain", "User-Agent": "settings-ledger"}


class Courier:
    """Signs and sends. An asynchronous context manager that owns its sinks' connections."""

    def __init__(
        self,
        keys: KeyRack,
        allowed_networks: Iterable[Network],
        blocking: BlockingCalls,
    ) -> None:
        self._keys = keys
        self._certificates = CertificateRack(keys.source)
        self._guard = Guard(allowed_networks)
        self._blocking = blocking
        self._sinks: dict[str, Sink] = {}
        self._signers = Signers()

    async def __aenter__(self) -> Self:
        web = HttpSink(self._guard)
        self._sinks = {"http": web, "https": web}
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._signers.close()
        for sink in set(self._sinks.values()):
            await sink.close()

    def _nats(self, scheme: str) -> Sink | None:
        """The sink for NATS, made when it is first asked for; None where it is not installed."""
        if scheme not in NATS or not nats_is_installed():
            return None
        from ledger.publisher.sinks.nats import NatsSink

        sink = NatsSink(self._guard)
        self._sinks |= dict.fromkeys(NATS, sink)
        return sink

    async def attempt(
        self,
        to: Destination,
        letter: Letter,
        policy: Policy,
        marks: Mapping[str, str] = _NO_MARKS,
    ) -> Outcome:
        """Send the letter, signed with the app's key. What the receiver does never raises.

        ``marks`` are headers that say what is special about it. Raises LedgerError for trouble
        of our own, such as no database to fetch the key from.
        """
        return await self.send(await self.sign(to, letter, marks), policy)

    async def sign(
        self, to: Destination, letter: Letter, marks: Mapping[str, str] = _NO_MARKS
    ) -> Parcel:
        """Sign the letter, as the first part of an attempt; ``send`` should follow soon.

        Raises LedgerError for trouble of our own.
        """
        key = self._keys.remembered(to.app_id)
        if key is None:
            key = await self._blocking.run(self._keys.fetch, to.app_id)
        signed = await key.sign_beside(letter.data, letter.skipped, letter.event_id, self._signers)
        headers = {**_HEADERS, **signed.headers, **marks}
        tls, refusal = (None, None) if to.certificate is None else await self._identify(to)
        return Parcel(to, letter.site_id, letter.event_id, headers, signed.body, tls, refusal)

    async def send(self, parcel: Parcel, policy: Policy) -> Outcome:
        """The second part of an attempt. What the receiver does never raises."""
        began = time.monotonic()
        outcome = await self._send(parcel, policy)
        seconds = time.monotonic() - began
        return Outcome(outcome.problem, outcome.status, outcome.retry_after, seconds)

    async def _send(self, parcel: Parcel, policy: Policy) -> Outcome:
        scheme = parcel.to.url.partition(":")[0]
        sink = self._sinks.get(scheme) or self._nats(scheme)
        if sink is None:
            return Outcome(f"{scheme}:// {NATS_EXTRA}")
        if parcel.refusal is not None:
            return Outcome(parcel.refusal)
        return await sink.send(parcel, policy)

    async def _identify(self, to: Destination) -> tuple[ssl.SSLContext | None, str | None]:
        """The context that shows the client certificate, or why it cannot be shown.

        Neither where it was taken away meanwhile. Raises LedgerError for trouble of our own.
        """
        loaded = self._certificates.remembered(to.subscription_id, to.certificate)
        try:
            loaded = loaded or await self._blocking.run(
                self._certificates.fetch, to.subscription_id
            )
        except ssl.SSLError as error:
            return None, f"the client certificate cannot be used: {error.reason}"
        return (None, None) if loaded is None else (loaded.context, loaded.problem)
