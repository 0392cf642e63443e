"""The public keys that verify webhooks, for receivers that look a ``kid`` up."""

from __future__ import annotations

from threading import Lock
from typing import Any

from cachetools import TTLCache
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ledger.directory import Directory, public_jwk
from ledger.web.errors import json_reply
from ledger.web.oauth_documentation import describe_keys
from ledger.web.patience import look_up

PATH = "/.well-known/jwks.json"
REMEMBERED = 5.0
"""Seconds that a server answers the same keys: whoever asks, asks the database no more often."""
CACHEABLE = 60
"""Seconds that a receiver may keep the answer; an unknown ``kid`` is a reason to ask before."""


def add_key_routes(app: FastAPI, directory: Directory) -> None:
    """Add ``/.well-known/jwks.json``; it needs no credential: public keys are public.

    One set for all apps: receivers choose by ``kid``, and only the number of keys shows.
    """
    routes = _KeyRoutes(directory)
    app.add_api_route(PATH, routes.get, methods=["GET"], **describe_keys())


class _KeyRoutes:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._remembered: TTLCache[str, dict[str, Any]] = TTLCache(1, REMEMBERED)
        self._asking = Lock()

    async def get(self, _request: Request) -> Response:
        """Answer the keys in use, and retired ones whose deliveries may still be verified."""
        keys = await look_up(self._keys)
        return json_reply(200, keys, {"Cache-Control": f"public, max-age={CACHEABLE}"})

    def _keys(self) -> dict[str, Any]:
        with self._asking:
            keys = self._remembered.get(PATH)
            if keys is None:
                published = self._directory.public_keys()
                keys = self._remembered[PATH] = {"keys": [public_jwk(key) for key in published]}
            return keys
