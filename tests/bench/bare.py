"""What somebody would write by hand: FastAPI, one row per site, a pool of psycopg connections."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, HTTPException
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

URL = "BENCH_DATABASE_URL"
"""The variable that names the database."""
POOL_SIZE = 8
TABLE = "CREATE TABLE bare_settings (site_id integer PRIMARY KEY, settings jsonb NOT NULL)"
PATH = "/settings/{site_id}"

pool = AsyncConnectionPool(
    os.environ.get(URL, ""), min_size=POOL_SIZE, max_size=POOL_SIZE, open=False
)


@asynccontextmanager
async def _with_pool(_app: FastAPI) -> AsyncIterator[None]:
    async with pool:
        yield


app = FastAPI(lifespan=_with_pool)


class Settings(BaseModel):
    """The two fields of the orders settings."""

    createInvoice: bool | None = None  # noqa: N815 as on the wire
    inventoryUpdateTrigger: Literal["ON_ORDER_PLACED", "ON_ORDER_PAID"] | None = None  # noqa: N815


class Patch(BaseModel):
    """The wrapper that Wix puts around them."""

    ordersSettings: Settings  # noqa: N815


@app.get(PATH)
async def get(site_id: int) -> dict[str, Any]:
    """The row."""
    async with pool.connection() as connection:
        found = await connection.execute(
            "SELECT settings FROM bare_settings WHERE site_id = %s", (site_id,)
        )
        row = await found.fetchone()
    if row is None:
        raise HTTPException(404)
    return {"ordersSettings": row[0]}


@app.patch(PATH)
async def patch(site_id: int, asked: Patch) -> dict[str, Any]:
    """Lay the patch over the row, and answer the row."""
    values = asked.ordersSettings.model_dump(exclude_none=True)
    async with pool.connection() as connection:
        found = await connection.execute(
            "UPDATE bare_settings SET settings = settings || %s WHERE site_id = %s "
            "RETURNING settings",
            (Jsonb(values), site_id),
        )
        row = await found.fetchone()
    if row is None:
        raise HTTPException(404)
    return {"ordersSettings": row[0]}
