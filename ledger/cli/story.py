"""How the quickstart's story is told: to a program as one document, to a newcomer in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ledger.cli.output import change_lines, document, moment, show, typed, value

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ledger import Ledger
    from ledger.quickstart import Story, Webhook

HIDDEN = ("createdDate", "updatedDate")


class Teller:
    """Tells the story once it has happened, and of every webhook that comes later."""

    def __init__(self, ledger: Ledger, *, once: bool, as_json: bool) -> None:
        self._ledger = ledger
        self._once = once
        self._as_json = as_json

    def told(self, story: Story) -> None:
        """Print the whole story."""
        if self._as_json:
            document(self._document(story))
        else:
            show(*self._chapters(story))

    def heard(self, webhook: Webhook) -> None:
        """Print a line about a webhook that came after the story."""
        if self._as_json:
            return
        mark = "its signature holds" if webhook.verified else "its signature does NOT hold"
        show(f"A webhook arrived, {mark}: {_said(webhook)} ({webhook.event.get('id')})")

    def _document(self, story: Story) -> dict[str, Any]:
        demo, webhook = story.demo, story.webhook
        return {
            "site_id": demo.site_id,
            "app_id": demo.app_id,
            "instance_id": demo.instance_id,
            "app_secret": demo.app_secret,
            "public_key_pem": demo.public_key_pem,
            "api_key": demo.api_key,
            "base_url": story.base_url,
            "before": story.before,
            "after": story.after,
            "changes": story.history[0].changes,
            "delivery": {
                "jwt": webhook.jwt,
                "event": webhook.event,
                "verified": webhook.verified,
                "latency_ms": story.latency_ms,
            },
            "data_dir": str(self._ledger.config.data_dir),
        }

    def _chapters(self, story: Story) -> list[RenderableType]:
        change, event = story.history[0], story.webhook.event
        actor = f"{change.actor.type} {change.actor.id}" if change.actor else "nobody known"
        holds = "holds" if story.webhook.verified else "does NOT hold"
        return [
            _heading(1, "A new site has the default settings", "GET /ecom/v1/orders-settings"),
            *_settings(story.before),
            _heading(2, "Somebody changes one of them", "PATCH /ecom/v1/orders-settings"),
            *(f"   {line}" for line in change_lines(change.changes)),
            _heading(3, "The next read sees it", "GET /ecom/v1/orders-settings"),
            *_settings(story.after),
            _heading(4, "The ledger remembers it for ever", f"history {story.demo.site_id}"),
            f"   version {change.version}, {moment(change.timestamp)}, by {actor}",
            f"   because: {change.reason or '–'}",
            _heading(
                5, "The installed app hears of it", f"{story.latency_ms:.0f} ms after the PATCH"
            ),
            f"   a signed webhook: {event.get('entityFqdn')}_{event.get('slug')}, {event.get('id')}",
            f"   it says: {_said(story.webhook)}",
            f"   its RS256 signature {holds} against the app's public key",
            *self._ending(story),
        ]

    def _ending(self, story: Story) -> list[RenderableType]:
        from rich.text import Text

        config, program = self._ledger.config, typed()
        place = (
            "in LEDGER_DATABASE_URL's database" if config.database_url else f"in {config.data_dir}"
        )
        again = f"{program} history {story.demo.site_id}"
        if self._once:
            lines = [
                f"\nAll of it happened over HTTP and is kept {place}. Go on with:\n",
                again,
                f"{program} quickstart      # the same once more, and then it goes on serving",
            ]
        else:
            patch = {"ordersSettings": {"inventoryUpdateTrigger": "ON_ORDER_PAID"}}
            lines = [
                f"\nIt goes on serving {story.base_url} (reference: {story.base_url}/docs). Try:\n",
                _curl(story, None),
                "",
                _curl(story, patch),
                "",
                again,
                f"\nAll of it is kept {place}. Ctrl-C ends this.\n",
            ]
        return [Text(line) for line in lines]


def _heading(number: int, what: str, how: str) -> RenderableType:
    from rich.text import Text

    return Text.assemble((f"\n{number}. {what}", "bold"), ("  ", ""), (how, "dim"))


def _settings(answer: dict[str, Any]) -> list[str]:
    [settings] = answer.values()
    return [f"   {name}: {value(item)}" for name, item in settings.items() if name not in HIDDEN]


def _said(webhook: Webhook) -> str:
    """What a webhook says was before."""
    was = webhook.event.get("updatedEvent", {}).get("modifiedFields", {})
    return ", ".join(f"{name} was {value(old)}" for name, old in was.items()) or "no value differs"


def _curl(story: Story, body: dict[str, Any] | None) -> str:
    lines = [
        f"curl -s {story.base_url}/ecom/v1/orders-settings",
        f"-H 'Authorization: {story.demo.api_key}'",
        f"-H 'wix-site-id: {story.demo.site_id}'",
    ]
    if body is not None:
        lines[0] = lines[0].replace("curl -s", "curl -s -X PATCH")
        lines += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(body)}'"]
    return " \\\n  ".join(lines)
