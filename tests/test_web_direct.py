"""Routes that are answered before the framework, answers of other threads, and whole replies."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import httpx
import pytest
from test_web_failures import KEY, PATH, FakeLedger

from ledger import errors
from ledger.web import create_app
from ledger.web.answers import Answers
from ledger.web.direct import Api
from ledger.web.protocol import LARGE, WholeReplies

BODY = b'{"ordersSettings":{"createInvoice":true}}'
JSON = {"Content-Type": "application/json"}
REQUESTS = {
    "read": ("GET", KEY, b""),
    "read with a query": ("GET", KEY, b"", "?createInvoice=true"),
    "unchanged": ("GET", KEY | {"If-None-Match": '"1"'}, b""),
    "malformed tag": ("GET", KEY | {"If-None-Match": "1"}, b""),
    "changed": ("PATCH", KEY | JSON, BODY),
    "nobody": ("GET", {}, b""),
    "somebody else": ("PATCH", {"Authorization": "other"} | JSON, BODY),
    "two credentials": ("GET", [("Authorization", "key"), ("authorization", "key")], b""),
    "no JSON": ("PATCH", KEY | JSON, b"{"),
    "another media type": ("PATCH", KEY | {"Content-Type": "text/plain"}, BODY),
    "too large": ("PATCH", KEY | JSON, b" " * 70_000),
    "not settings": ("PATCH", KEY | JSON, b'{"ordersSettings":{"createInvoice":3}}'),
    "text without an encoding": ("PATCH", KEY | JSON, rb'{"\ud800":1}'),
    "head": ("HEAD", KEY, b""),
    "another method": ("PUT", KEY, b""),
    "another path": ("GET", KEY, b"", "/"),
}
OWN = {"x-wix-request-id", "x-wix-consistent"}
"""Headers that no two replies share."""


@pytest.fixture(scope="module")
def api():
    return create_app(FakeLedger())


async def said(app, method, headers, body, suffix=""):
    """Status, headers and body of a reply."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        reply = await client.request(method, f"{PATH}{suffix}", headers=headers, content=body)
    assert "x-wix-request-id" in reply.headers
    assert ("x-wix-consistent" in reply.headers) == (method == "PATCH" and reply.is_success)
    shared = [pair for pair in reply.headers.multi_items() if pair[0] not in OWN]
    return reply.status_code, shared, reply.content


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
async def test_direct_answers_are_those_of_the_framework(api, request_of):
    """What is answered before the framework is answered as if the framework had called it."""
    assert await said(api, *request_of) == await said(Api(api.framework, {}), *request_of)


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("failure", [errors.RateLimited("Wait.", 3), ValueError("unforeseen")])
async def test_direct_failures_are_those_of_the_framework(method, failure):
    """So is every error, foreseen or not."""
    ledger = FakeLedger()
    ledger.failure = failure
    api = create_app(ledger)
    asked = (method, KEY | JSON, BODY if method == "PATCH" else b"")
    assert await said(api, *asked) == await said(Api(api.framework, {}), *asked)


async def test_what_is_answered_directly(api):
    """Reads and changes of the settings are answered before the framework, and nothing else."""
    directly = []

    async def note(request):
        directly.append(request.method)
        raise errors.NotFound("site", "none")

    noting = Api(api.framework, {("GET", PATH): note})
    assert (await said(noting, "GET", KEY, b""))[0] == 404
    assert (await said(noting, "HEAD", KEY, b""))[0] == 200
    assert directly == ["GET"]


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often other threads wake it."""

    calls = 0

    def call_soon_threadsafe(self, callback, *arguments, context=None):
        self.calls += 1
        return super().call_soon_threadsafe(callback, *arguments, context=context)


def test_a_batch_of_answers_wakes_the_loop_once():
    """Answers that come while the loop is busy are given together: each to who waits for it."""
    changes = [Future() for _ in range(20)]

    def settle():
        for number, change in enumerate(changes):
            if number % 2:
                change.set_exception(errors.LedgerError(str(number)))
            else:
                change.set_result(number)

    async def main():
        answers = Answers()
        waiting = [asyncio.create_task(answers.of(change)) for change in changes]
        await asyncio.sleep(0)
        waiting[3].cancel()
        before = loop.calls
        writer = threading.Thread(target=settle)
        writer.start()
        writer.join()
        assert loop.calls == before + 1
        return await asyncio.gather(*waiting, return_exceptions=True)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        given = runner.run(main())
    assert isinstance(given.pop(3), asyncio.CancelledError)
    assert [str(answer) for answer in given] == [str(n) for n in range(20) if n != 3]


def test_an_answer_after_the_loop_ended_is_nobodys():
    """Who left with its loop is not waited for, and another loop gets its own answers."""
    answers, left, change = Answers(), Future(), Future()

    async def leave():
        task = asyncio.create_task(answers.of(left))
        await asyncio.sleep(0)
        assert not task.done()

    async def stay():
        task = asyncio.create_task(answers.of(change))
        await asyncio.sleep(0)
        change.set_result("there")
        return await task

    asyncio.run(leave())
    left.set_result("late")
    assert asyncio.run(stay()) == "there"


class Transport:
    """Keeps what is written to it."""

    def __init__(self):
        self.written = []
        self.closed = False

    def write(self, data):
        assert not self.closed
        self.written.append(data)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def get_extra_info(self, name):
        return name


async def test_head_and_body_are_sent_together():
    """What is written within one turn of the loop is sent as one piece, in order."""
    transport = Transport()
    replies = WholeReplies(transport, asyncio.get_running_loop())
    replies.write(b"head ")
    replies.write(b"body")
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [b"head body"]
    replies.write(b"next")
    await asyncio.sleep(0)
    assert transport.written == [b"head body", b"next"]
    assert replies.get_extra_info("peername") == "peername"


async def test_what_is_large_is_not_kept():
    """A large piece is sent at once, behind what was written before it."""
    transport = Transport()
    replies = WholeReplies(transport, asyncio.get_running_loop())
    replies.write(b"head")
    replies.write(b"x" * LARGE)
    assert transport.written == [b"head" + b"x" * LARGE]
    replies.write(b"tail")
    await asyncio.sleep(0)
    assert transport.written[1:] == [b"tail"]


async def test_what_was_written_is_sent_before_hanging_up():
    """Hanging up sends what was written; nothing is sent over a connection that was lost."""
    transport = Transport()
    replies = WholeReplies(transport, asyncio.get_running_loop())
    replies.write(b"last words")
    replies.close()
    await asyncio.sleep(0)
    assert (transport.written, transport.closed) == ([b"last words"], True)
    replies.write(b"too late")
    await asyncio.sleep(0)
    assert transport.written == [b"last words"]
