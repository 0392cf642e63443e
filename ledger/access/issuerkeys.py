"""The public keys of the outside identity provider: discovered, fetched and kept for a while."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from http.client import HTTPException
from threading import Lock
from typing import IO, Any
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt
import structlog

from ledger.config import is_https_or_loopback
from ledger.errors import Unavailable

KEYS_FRESH = 600.0
"""Seconds until keys are fetched anew: within these a key that the provider dropped is refused."""
KEYS_KEPT = 3600.0
"""Seconds that keys are used while the provider cannot be reached; then its tokens are refused."""
ASKED_AT_MOST_EVERY = 30.0
"""Seconds between two fetches, also for tokens that name unknown keys."""
PATIENCE = 5.0
"""Seconds that the provider gets to answer."""
TURN = 0.5
"""Seconds that others wait while one asks the provider."""
LARGEST_DOCUMENT = 1024 * 1024

log = structlog.get_logger(__name__)

Fetch = Callable[[str], Any]


class IssuerKeys:
    """Keys by their ``kid``. Safe to use from any thread; ``at_hand`` never waits.

    Which URL holds the keys is what ``<issuer>/.well-known/openid-configuration`` says (OpenID
    Connect Discovery 1.0, section 4).
    """

    def __init__(
        self,
        issuer: str,
        *,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch or fetch_json
        self._clock = clock
        self._asking = Lock()
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._asked: float | None = None

    def at_hand(self, kid: str | None) -> jwt.PyJWK | None:
        """The key if it is known and fresh; a token without ``kid`` means the only one."""
        return self._known(kid) if self._age() < KEYS_FRESH else None

    def get(self, kid: str | None) -> jwt.PyJWK | None:
        """The key, fetched where need be; None where the provider has no such key.

        Raises Unavailable where its keys cannot be had, and none are known that would still do.
        """
        key = self.at_hand(kid)
        if key is not None:
            return key
        usable = self._known(kid) if self._age() < KEYS_KEPT else None
        # Whoever has a key that will do does not wait while another asks; nobody waits for long,
        # so that a provider that hangs takes no threads from those who come with other credentials.
        if self._asking.acquire(timeout=0 if usable else TURN):
            try:
                if self.at_hand(kid) is None and self._may_ask():
                    self._refresh()
            finally:
                self._asking.release()
        elif usable is None:
            raise Unavailable("The keys of the identity provider are being fetched.")
        if self._age() >= KEYS_KEPT:
            raise Unavailable(
                "The keys of the identity provider cannot be fetched.", ASKED_AT_MOST_EVERY
            )
        return self._known(kid)

    def _age(self) -> float:
        return math.inf if self._fetched is None else self._clock() - self._fetched

    def _known(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _may_ask(self) -> bool:
        return self._asked is None or self._clock() - self._asked >= ASKED_AT_MOST_EVERY

    def _refresh(self) -> None:
        self._asked = self._clock()
        try:
            self._keys = _signing_keys(self._fetch(self._discovered()))
            self._fetched = self._clock()
        except (OSError, URLError, HTTPException, ValueError, TypeError, KeyError) as error:
            log.warning("identity provider's keys not fetched", issuer=self._issuer, why=str(error))

    def _discovered(self) -> str:
        document = self._fetch(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document["issuer"] != self._issuer:
            raise ValueError(f"the discovery document is of {document['issuer']!r}")
        url = str(document["jwks_uri"])
        if not is_https_or_loopback(url):
            raise ValueError(f"the discovery document names keys at {url!r}, which is not https")
        return url


def fetch_json(url: str) -> Any:
    """GET a JSON document of at most 1 MiB; redirects are not followed."""
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked: https
    with _OPENER.open(request, timeout=PATIENCE) as response:
        body = response.read(LARGEST_DOCUMENT + 1)
    if len(body) > LARGEST_DOCUMENT:
        raise ValueError(f"the document at {url} is too large")
    return json.loads(body)


def _signing_keys(document: Any) -> dict[str | None, jwt.PyJWK]:
    """The keys of a set that verify signatures; others, and those not understood, are passed over."""
    keys: dict[str | None, jwt.PyJWK] = {}
    for entry in document["keys"]:
        if not isinstance(entry, dict):
            raise TypeError("the key set holds what is no key")
        # A symmetric key in a public document proves nothing.
        if entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        keys[key.key_id] = key
    return keys


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Follow none: a redirect could lead from https to anywhere."""


_OPENER = build_opener(_NoRedirects)
