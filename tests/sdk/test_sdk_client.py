"""Wix's own client against this server: it cannot tell the difference where it matters."""

from __future__ import annotations

import re
from uuid import uuid4

import httpx
import pytest
from http_server import served
from test_web_failures import FakeLedger

from ledger import errors

MANAGE = "SCOPE.DC-STORES.MANAGE-ORDERS"
READ = "SCOPE.DC-STORES.READ-ORDERS"
GET = ["ordersSettings", "getOrdersSettings"]
GET_CHECKOUT = ["checkoutSettings", "getCheckoutSettings"]
ORDERS = "/ecom/v1/orders-settings"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def update(settings):
    return ["ordersSettings", "updateOrdersSettings", settings]


def update_checkout(settings):
    return ["checkoutSettings", "updateCheckoutSettings", settings]


@pytest.fixture
def site(ledger):
    return ledger.create_site()


@pytest.fixture
def api_key(ledger, site):
    """What ApiKeyStrategy takes."""
    key = ledger.directory.create_key(site.site_id, [MANAGE])
    return {"apiKey": key.api_key, "siteId": str(site.site_id)}


@pytest.fixture
def app(ledger, site):
    """What AppStrategy takes."""
    app = ledger.directory.create_app("App", [MANAGE])
    installation = ledger.directory.install(app.app_id, site.site_id)
    return {
        "appId": str(app.app_id),
        "appSecret": app.app_secret,
        "publicKey": app.public_key_pem,
        "instanceId": str(installation.instance_id),
    }


def failure(results):
    """The error of the only call, whose request id is the server's."""
    [result] = results
    error = result["error"]
    assert UUID.fullmatch(error["requestId"])
    assert error["details"]["requestId"] == error["requestId"]
    return error


@pytest.mark.parametrize("strategy", ["api_key", "app"])
def test_settings_are_read_and_changed(call, request, strategy, ledger, site):
    """Get and update answer typed settings, with dates as dates, by either strategy."""
    auth = request.getfixturevalue(strategy)
    before, after = call(auth, GET, update({"createInvoice": True}))
    settings = before["value"]["ordersSettings"]
    created = settings["_createdDate"]["date"]
    assert DATE.fullmatch(created)
    assert settings == {
        "inventoryUpdateTrigger": "ON_ORDER_PLACED",
        "createInvoice": False,
        "_createdDate": {"date": created},
        "_updatedDate": {"date": created},
    }
    changed = after["value"]["ordersSettings"]
    assert changed["createInvoice"] is True
    assert changed["_updatedDate"]["date"] > created
    actor = ledger.site(site.site_id).history.changes()[0].actor
    assert actor.type == ("APP" if strategy == "app" else "WIX_USER")
    assert strategy != "app" or actor.id == auth["appId"]


def test_what_was_read_is_sent_back_with_an_edit(node, call, api_key):
    """SDK code that gets, edits and updates sends dates along: they are ignored."""
    read = call(api_key, GET)[0]["value"]["ordersSettings"]
    edited = read | {"createInvoice": True, "_createdDate": None, "_updatedDate": None}
    [result] = call(api_key, update(edited))
    assert result["value"]["ordersSettings"]["createInvoice"] is True
    assert result["value"]["ordersSettings"]["_createdDate"] == read["_createdDate"]


def test_the_twin_kind_is_read_and_changed(call, api_key):
    """Checkout settings come and go through their own package, images as the SDK has them."""
    image = "wix:image://v1/abc~mv2.png/logo.png#originWidth=300&originHeight=200"
    brand = {"header": {"text": "Flowers", "logo": {"image": image}}}
    policy = {"returnPolicy": {"visible": True, "content": "100 days"}}
    before, after, again = call(
        api_key,
        GET_CHECKOUT,
        update_checkout({"checkoutPolicies": policy, "checkoutBrand": brand}),
        GET_CHECKOUT,
    )
    settings = before["value"]["checkoutSettings"]
    assert settings["checkoutBrand"]["header"]["logo"] == {"size": "SMALL"}
    assert settings["checkoutBillingFields"] == "All_FIELDS"
    assert DATE.fullmatch(settings["_createdDate"]["date"])
    changed = after["value"]["checkoutSettings"]
    assert changed == again["value"]["checkoutSettings"]
    assert changed["checkoutPolicies"]["returnPolicy"] == policy["returnPolicy"]
    assert changed["checkoutBrand"]["header"] == {
        "text": "Flowers",
        "logo": {"size": "SMALL", "image": image},
        "alignment": "SIDE",
        "continueShopping": {"displayType": "TEXT"},
    }


def test_a_client_reads_what_it_wrote(node, url, api_key):
    """The SDK echoes the consistency token of the reply before in every later request."""
    calls = [update({"createInvoice": True}), GET]
    answer = node.ask("calls.mjs", {"url": url, "auth": api_key, "calls": calls})
    wrote, read = answer["sent"]
    assert "consistent" not in wrote
    assert read["consistent"]
    assert answer["results"][1]["value"]["ordersSettings"]["createInvoice"] is True


def test_violations_name_every_field(call, api_key):
    """A refused update throws all violations at once, each with its rule, under status 400."""
    settings = {"createInvoice": "yes", "inventoryUpdateTrigger": "NEVER", "colour": 1}
    error = failure(call(api_key, update(settings)))
    assert error["status"] == 400
    violations = error["details"]["validationError"]["fieldViolations"]
    assert [(each["field"], each["violatedRule"]) for each in violations] == [
        ("ordersSettings.colour", "FIELD_NOT_ALLOWED"),
        ("ordersSettings.createInvoice", "FORMAT"),
        ("ordersSettings.inventoryUpdateTrigger", "INVALID_ENUM_VALUE"),
    ]
    assert all(each["description"] for each in violations)


def test_an_update_of_nothing_names_the_wrapper(call, api_key):
    """Without settings the required field is named."""
    error = failure(call(api_key, update(None)))
    [violation] = error["details"]["validationError"]["fieldViolations"]
    assert (violation["field"], violation["violatedRule"]) == ("ordersSettings", "REQUIRED_FIELD")


@pytest.mark.parametrize(
    ("change", "headers", "status", "code"),
    [
        ({"apiKey": "nonsense"}, None, 401, "UNAUTHENTICATED"),
        ({"siteId": str(uuid4())}, None, 403, "PERMISSION_DENIED"),
        ({"siteId": "here"}, None, 400, "INVALID_ARGUMENT"),
        ({"accountId": str(uuid4())}, None, 400, "INVALID_ARGUMENT"),
        ({}, {"If-Match": '"99"'}, 412, "FAILED_PRECONDITION"),
        ({}, {"Content-Type": "text/plain"}, 415, "INVALID_ARGUMENT"),
    ],
)
def test_an_error_has_its_status_and_code(call, api_key, change, headers, status, code):
    """What the SDK throws carries the status, the code and the request id of the refusal."""
    options = {} if headers is None else {"headers": headers}
    error = failure(call(api_key | change, update({"createInvoice": True}), **options))
    assert error["status"] == status
    assert error["details"]["applicationError"]["code"] == code
    assert error["details"]["applicationError"]["description"] in error["message"]


def test_a_credential_that_may_only_read_is_refused(call, ledger, site):
    """An update with a reading scope is 403, and a get is not."""
    key = ledger.directory.create_key(site.site_id, [READ])
    auth = {"apiKey": key.api_key, "siteId": str(site.site_id)}
    assert "value" in call(auth, GET)[0]
    error = failure(call(auth, update({"createInvoice": True})))
    assert (error["status"], error["details"]["applicationError"]["code"]) == (
        403,
        "PERMISSION_DENIED",
    )


def test_a_body_too_large_is_told(call, api_key):
    """Over 64 KiB is 413."""
    error = failure(call(api_key, update({"inventoryUpdateTrigger": "x" * 70_000})))
    assert (error["status"], error["details"]["applicationError"]["code"]) == (
        413,
        "INVALID_ARGUMENT",
    )


def test_an_idempotency_key_used_for_another_request_is_told(call, api_key):
    """The same key with another body is 409; the first of the two was recorded."""
    headers = {"Idempotency-Key": "k1"}
    first, second = call(
        api_key, update({"createInvoice": True}), update({"createInvoice": False}), headers=headers
    )
    assert "value" in first
    error = failure([second])
    assert (error["status"], error["details"]["applicationError"]["code"]) == (
        409,
        "ALREADY_EXISTS",
    )


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (errors.NotFound("site", "x"), 404, "NOT_FOUND"),
        (errors.RateLimited("Slower.", 2.5), 429, "RESOURCE_EXHAUSTED"),
        (errors.NotInstalled("Gone."), 428, "FAILED_PRECONDITION"),
        (errors.Unavailable("full"), 503, "UNAVAILABLE"),
        (errors.OutcomeUnknown("lost"), 504, "DEADLINE_EXCEEDED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failing_ledger_is_told(call, raised, status, code):
    """What the ledger cannot do has its status and code as well."""
    ledger = FakeLedger()
    ledger.failure = raised
    with served(ledger) as url:
        error = failure(call({"apiKey": "key"}, GET, at=url))
    assert (error["status"], error["details"]["applicationError"]["code"]) == (status, code)


def test_a_bug_of_ours_tells_nothing_but_its_request_id(call):
    """A 500 throws the SDK's "System error" with the id under which the log has the reason."""
    ledger = FakeLedger()
    ledger.failure = RuntimeError("secret detail")
    with served(ledger) as url:
        [result] = call({"apiKey": "key"}, GET, at=url)
    error = result["error"]
    assert error["status"] == 500
    assert UUID.fullmatch(error["requestId"])
    assert "secret" not in str(error)


@pytest.mark.parametrize("wrong", ["appId", "appSecret", "instanceId"])
def test_a_wrong_app_credential_gets_no_token(node, url, app, wrong):
    """AppStrategy is refused its token with 401, and asks for nothing without one."""
    value = str(uuid4()) if wrong != "appSecret" else "nonsense"
    answer = node.ask("calls.mjs", {"url": url, "auth": app | {wrong: value}, "calls": [GET]})
    assert answer["sent"] == [{"path": "/oauth2/token", "status": 401}]
    assert "error" in answer["results"][0]


def test_one_token_serves_many_calls(node, url, app):
    """AppStrategy asks once for a token and uses it for as long as it holds."""
    answer = node.ask("calls.mjs", {"url": url, "auth": app, "calls": [GET, GET]})
    assert [each["path"] for each in answer["sent"]] == ["/oauth2/token"] + [ORDERS] * 2


def test_an_access_token_elevates_to_its_instance(call, url, app, site):
    """`elevated()` asks what a token says, and acts as the app instance that it names."""
    asked = {
        "grant_type": "client_credentials",
        "client_id": app["appId"],
        "client_secret": app["appSecret"],
        "instance_id": app["instanceId"],
    }
    token = httpx.post(f"{url}/oauth2/token", json=asked).json()["access_token"]
    auth = {"appId": app["appId"], "appSecret": app["appSecret"]}
    [result] = call(
        auth | {"accessToken": token, "elevated": True}, update({"createInvoice": True})
    )
    assert result["value"]["ordersSettings"]["createInvoice"] is True
    actor = site.history.changes()[0].actor
    assert (actor.type, actor.id) == ("APP", app["appId"])
