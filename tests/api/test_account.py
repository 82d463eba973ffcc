"""The account: what the API tells of it, wherever it may stand."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from sync_mcp import AccountInfo, APIResponseError, AsyncSync, PermissionDeniedError
from sync_mcp.sandbox import Fault, Sandbox

from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_account_tells_the_plan_and_what_it_allows(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.configure(plan="growth")
    account = await sync.account.get()
    assert (account.plan_name, account.concurrency) == ("growth", 6)
    assert account.organization_id
    assert account.credential_type == "api_key"
    assert account.billing_model == "usage"
    assert account.billing_url == f"{sandbox.url}/sandbox"


async def test_what_was_spent_is_no_balance(sync: AsyncSync) -> None:
    account = await sync.account.get()
    assert isinstance(account.balance, dict)
    assert "spentUsd" in account.balance
    assert (account.balance_usd, account.balance_credits) == (None, None)


async def test_the_organization_header_goes_out_with_the_call(sandbox: Sandbox, sync: AsyncSync) -> None:
    await sync.account.get(request_options={"additional_headers": {"x-sync-organization-id": "org-2"}})
    (asked,) = sandbox.requests
    assert (asked.method, asked.path) == ("GET", "/v2/account")
    assert asked.headers["x-sync-organization-id"] == "org-2"


async def test_an_organization_that_the_key_has_no_access_to_is_a_denied_permission(
    sandbox: Sandbox, sync: AsyncSync
) -> None:
    sandbox.add_fault(
        Fault(path="/v2/account", status=403, body={"message": "No access to this organization."})
    )
    with pytest.raises(PermissionDeniedError, match="No access to this organization"):
        await sync.account.get()


@pytest.mark.parametrize("body", [[], "account", 7, [{"plan": "free"}]])
async def test_an_answer_that_is_no_object_is_no_account(
    serve: Serve, client_of: ClientOf, body: object
) -> None:
    with pytest.raises(APIResponseError, match="no account"):
        await client_of(serve(answer(200, body))).account.get()


def test_an_account_that_tells_nothing_is_read_all_the_same() -> None:
    for told in ({}, {"account": None, "plan": None, "limits": "", "balance": None}):
        account = AccountInfo.from_wire(told)
        assert (account.organization_id, account.plan_name, account.concurrency) == (None, None, None)
        assert (account.balance_usd, account.balance_credits) == (None, None)


def test_fields_that_nobody_knows_are_kept() -> None:
    told = {"plan": {"name": "scale", "seats": [1, 2]}, "canManageBilling": True, "billingModel": "barter"}
    account = AccountInfo.from_wire(told)
    assert account.to_wire() == told


@pytest.mark.parametrize(
    "told",
    [
        {"organization": {"id": "org-1", "name": "Us"}},
        {"organization": {"organizationId": "org-1"}},
        {"organization": {"organization_id": "org-1"}},
        {"organization": "org-1"},
    ],
)
def test_the_organization_is_found_wherever_it_stands(told: dict[str, object]) -> None:
    assert AccountInfo.from_wire(told).organization_id == "org-1"


@pytest.mark.parametrize(
    "plan", ["Scale", {"name": "Scale"}, {"planName": "Scale", "id": 7}, {"tier": "Scale"}, {"id": "Scale"}]
)
def test_the_plan_is_found_under_each_name(plan: object) -> None:
    assert AccountInfo.from_wire({"plan": plan}).plan_name == "Scale"


@pytest.mark.parametrize(
    "told",
    [
        {"limits": {"concurrency": 15}},
        {"limits": {"concurrency": "15"}},
        {"limits": {"concurrency": 15.0}},
        {"limits": {"concurrencyLimit": 15}},
        {"limits": {"concurrency_limit": 15}},
        {"limits": {"maxConcurrency": 15}},
        {"limits": {"maxConcurrentGenerations": 15}},
        {"limits": {"concurrentGenerations": 15}},
        {"limits": {"concurrency": {"used": 3, "limit": 15}}},
        {"limits": {"concurrency": {"used": 3, "max": 15}}},
        {"limits": {"batch": {"concurrency": 2}, "generations": {"concurrency": 15}}},
        {"limits": {"concurrency": None}, "plan": {"name": "scale", "maxConcurrency": 15}},
        {"plan": {"limits": {"concurrency": 15}}},
    ],
)
def test_the_concurrency_is_found_wherever_it_stands(told: dict[str, object]) -> None:
    assert AccountInfo.from_wire(told).concurrency == 15


@pytest.mark.parametrize("value", [0, -1, True, "many", "1e999999", {"used": 3}, [15], {}])
def test_what_cannot_be_a_concurrency_is_not_taken_for_one(value: object) -> None:
    assert AccountInfo.from_wire({"limits": {"concurrency": value}}).concurrency is None


@pytest.mark.parametrize(
    ("told", "credits", "usd"),
    [
        ({"billingModel": "credits", "balance": 12.5}, "12.5", None),
        ({"billingModel": "credits", "balance": {"balance": 20, "available": 12.5}}, "12.5", None),
        ({"balance": {"credits": 12.5}}, "12.5", None),
        ({"balance": {"credits": {"balance": 20, "available": "12.5"}}}, "12.5", None),
        ({"balance": {"availableCredits": 12.5}}, "12.5", None),
        ({"balance": {"unit": "credits", "remaining": 12.5}}, "12.5", None),
        ({"balance": {"usd": "12.50"}}, None, "12.50"),
        ({"balance": {"balanceUsd": 0.1}}, None, "0.1"),
        ({"balance": {"currency": "USD", "amount": "-3.20"}}, None, "-3.20"),
        ({"balance": {"balanceCents": 1250}}, None, "12.5"),
        ({"billingModel": "credits", "balance": {"credits": 100, "usd": 4}}, "100", "4"),
        ({"balance": {"currency": "EUR", "amount": 5}}, None, None),
        ({"billingModel": "usage", "balance": 5}, None, None),
        ({"billingModel": "credits", "balance": "NaN"}, None, None),
        ({"billingModel": "credits", "balance": {"inFlight": 3}}, None, None),
        ({"balance": {"credits": 1e30, "usd": "1E+400"}}, None, None),
        ({"balance": {"credits": float("inf"), "usd": "-1e30"}}, None, None),
    ],
)
def test_the_balance_is_an_exact_figure_in_the_unit_that_is_told(
    told: dict[str, object], credits: str | None, usd: str | None
) -> None:
    account = AccountInfo.from_wire(told)
    assert account.balance_credits == (Decimal(credits) if credits else None)
    assert account.balance_usd == (Decimal(usd) if usd else None)


async def test_the_organizations_of_a_key_are_its_own_alone(sync: AsyncSync) -> None:
    [organization] = await sync.account.organizations()
    assert organization.id == (await sync.account.get()).organization_id
    assert (organization.name, organization.role) == ("Sandbox", "owner")
