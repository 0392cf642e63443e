"""The webhook's content: from a recorded event to the JSON that is signed. Pure.

Every function gives the same text for the same facts, so that an attempt made a day later
carries what the first one carried.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger import timestamps
from ledger.identity import Identity, IdentityType
from ledger.settings import SettingsKind

_ID_FIELDS = {
    IdentityType.ANONYMOUS_VISITOR: "anonymousVisitorId",
    IdentityType.MEMBER: "memberId",
    IdentityType.WIX_USER: "wixUserId",
    IdentityType.APP: "appId",
}


def webhook_data(
    facts: Mapping[str, Any],
    kind: SettingsKind,
    *,
    version: int,
    entity_id: UUID,
    created: datetime,
    actor: Identity | None,
    instance_id: UUID,
) -> str:
    """The claim ``data``: JSON text with the event and the identity as text inside (wire contract).

    ``facts`` are those of a ``SettingsChanged``; ``created`` is when the site's settings were
    created; ``actor`` is None where the person was erased.
    """
    event = domain_event(facts, kind, version=version, entity_id=entity_id, created=created)
    return _text(
        {
            "data": _text(event),
            "instanceId": str(instance_id),
            "eventType": kind.event_type,
            "identity": _text(identity_claim(facts["actor"], actor)),
            "accountInfo": {"siteId": facts["site_id"]},
        }
    )


def domain_event(
    facts: Mapping[str, Any],
    kind: SettingsKind,
    *,
    version: int,
    entity_id: UUID,
    created: datetime,
) -> dict[str, Any]:
    """The event itself, as the seed's "Event Data" lists it.

    ``currentEntity`` carries the settings twice, directly (the SDK's typed handler) and under
    the kind's wrapper (the seed's sample); ``modifiedFields`` maps a path to its previous
    value, None where there was none.
    """
    updated = timestamps.parse(facts["timestamp"])
    entity = kind.reply(facts["settings"], created, updated)
    event: dict[str, Any] = {
        "id": facts["event_id"],
        "entityFqdn": kind.fqdn,
        "slug": kind.event_slug,
        "entityId": str(entity_id),
        "eventTime": facts["timestamp"],
        "triggeredByAnonymizeRequest": False,
    }
    if (origin := facts.get("origin")) is not None:
        event["originatedFrom"] = origin
    return event | {
        "entityEventSequence": str(version),
        "updatedEvent": {
            "currentEntity": {**entity, kind.wrapper: entity},
            "modifiedFields": {
                path: change.get("from") for path, change in facts["changes"].items()
            },
        },
    }


def identity_claim(token: Mapping[str, Any], actor: Identity | None) -> dict[str, str]:
    """Who acted, with the one id that matches the type.

    ``token`` is the event's reference to the actor; where nobody stands behind it any more,
    the reference itself is the id, so that one person's acts still belong together.
    """
    identity = actor or Identity(IdentityType(token["type"]), token["ref"])
    return {"identityType": identity.type.value, _ID_FIELDS[identity.type]: identity.id}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
