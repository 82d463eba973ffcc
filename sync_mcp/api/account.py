"""The account: whose key it is, its plan, what the plan allows, and what is left to spend (API §11).

What stands inside `plan`, `limits` and `balance` is documented nowhere. They are kept as they come, and the
properties of `AccountInfo` look in them for the spellings that are plausible.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal, DecimalException
from typing import Literal

from pydantic import JsonValue

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.models import CamelModel
from sync_mcp.api.options import RequestOptions

# Names as they are compared: in lower case, letters alone.
_ORGANIZATION_ID = ("id", "organizationid", "uuid")
_PLAN = ("name", "planname", "displayname", "plan", "tier", "slug", "key", "id")
_CONCURRENCY = (
    "concurrency",
    "concurrencylimit",
    "concurrent",
    "concurrentlimit",
    "concurrentgenerations",
    "concurrentgenerationslimit",
    "concurrentjobs",
    "maxconcurrency",
    "maxconcurrent",
    "maxconcurrentgenerations",
    "maxconcurrentjobs",
    "generationconcurrency",
    "generationconcurrencylimit",
)
_GENERATIONS = ("generations", "generation", "generate", "jobs")
_MOST = ("limit", "max", "maximum", "allowed", "total", "value")
_MOST_SLOTS = 100_000
_HIGHEST = Decimal(10) ** 12
"""No account has or owes more, in whatever unit."""
_CREDITS = ("availablecredits", "creditsavailable", "creditsremaining", "remainingcredits", "creditbalance")
_DOLLARS = ("availableusd", "usdavailable", "remainingusd", "balanceusd", "usdbalance", "amountusd", "usd")
_CENTS = ("availablecents", "remainingcents", "balancecents", "amountcents", "cents")
_LEFT = ("available", "remaining", "balance", "amount", "current", "value")


class AccountInfo(CamelModel):
    """What the API tells of the account that a key belongs to; every field may be missing."""

    account: JsonValue = None
    """The user; None for a key without an owner."""
    organization: JsonValue = None
    credential_type: Literal["api_key", "oauth", "session"] | str | None = None
    plan: JsonValue = None
    limits: JsonValue = None
    balance: JsonValue = None
    billing_model: Literal["credits", "usage", "free", "enterprise"] | str | None = None
    """How to get on after a 402: `credits` top up, `usage` pay, `free` upgrade, `enterprise` ask Sync."""
    billing_url: str | None = None

    @property
    def organization_id(self) -> str | None:
        """The organization's id, where the API tells it."""
        return _word(self.organization, _ORGANIZATION_ID)

    @property
    def plan_name(self) -> str | None:
        """The plan's name as the API spells it, where it tells it."""
        return _word(self.plan, _PLAN)

    @property
    def concurrency(self) -> int | None:
        """How many jobs may run at once, where the API tells it."""
        limits = (self.limits, self.plan, *_values(self.plan, ("limits",)))
        for place in (inner for one in limits for inner in (one, *_values(one, _GENERATIONS))):
            for value in _values(place, _CONCURRENCY):
                number = _number(value)
                if number is None:
                    number = next(_numbers(value, _MOST), None)
                if number is not None and 1 <= number <= _MOST_SLOTS:
                    return int(number)
        return None

    @property
    def balance_credits(self) -> Decimal | None:
        """What is left in credits, where the API counts in them and tells it."""
        told = next(_numbers(self.balance, _CREDITS), None)
        if told is not None:
            return told
        credits = next(_values(self.balance, ("credits",)), None)
        if credits is not None:
            return _amount_left(credits)
        return _amount_left(self.balance) if self._unit == "credits" else None

    @property
    def balance_usd(self) -> Decimal | None:
        """What is left in US dollars, where the API counts in them and tells it."""
        told = next(_numbers(self.balance, _DOLLARS), None)
        if told is not None:
            return told
        cents = next(_numbers(self.balance, _CENTS), None)
        if cents is not None:
            return cents / 100
        return _amount_left(self.balance) if self._unit == "usd" else None

    @property
    def _unit(self) -> str | None:
        """What the figures of the balance count, where that is told."""
        for told in _values(self.balance, ("currency", "unit")):
            if isinstance(told, str):
                return told.lower()
        return "credits" if self.billing_model == "credits" else None


class Organization(CamelModel):
    """An organization that the credential has access to."""

    id: str
    """What the header `x-sync-organization-id` takes."""
    name: str | None = None
    role: str | None = None
    """The user's own in it."""


class Account:
    """The account that the key belongs to; reached as `AsyncSync.account`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, *, request_options: RequestOptions | None = None) -> AccountInfo:
        """Return the account with its plan, limits and balance; free, and good to ask before work.

        Of several organizations the header `x-sync-organization-id` chooses one.

        Raises:
            PermissionDeniedError: the key has no access to the organization that the header names.
        """
        reply = await self._transport.read(Call("GET", "/v2/account"), request_options)
        return reply.read_as(AccountInfo, "account")

    async def organizations(self, *, request_options: RequestOptions | None = None) -> list[Organization]:
        """Return the organizations that the credential has access to, the present one first.

        A key has its own alone.
        """
        call = Call("GET", "/v2/account/organizations", is_list=True)
        reply = await self._transport.read(call, request_options)
        return reply.read_list(Organization, "list of organizations", under="organizations")[0]


def _values(place: JsonValue, names: tuple[str, ...]) -> Iterator[JsonValue]:
    """Yield what stands under these names, in their order, however they are spelled."""
    if isinstance(place, Mapping):
        spelled = {_letters(name): value for name, value in place.items()}
        yield from (spelled[name] for name in names if spelled.get(name) is not None)


def _numbers(place: JsonValue, names: tuple[str, ...]) -> Iterator[Decimal]:
    for value in _values(place, names):
        number = _number(value)
        if number is not None:
            yield number


def _number(value: JsonValue) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        # A float through its shortest decimal form: money must not carry its noise.
        number = Decimal(str(value))
    except DecimalException:
        return None
    return number if number.is_finite() and abs(number) <= _HIGHEST else None


def _amount_left(value: JsonValue) -> Decimal | None:
    """Return a figure that stands alone, or what an object says is left."""
    number = _number(value)
    return number if number is not None else next(_numbers(value, _LEFT), None)


def _word(place: JsonValue, names: tuple[str, ...]) -> str | None:
    """Return a word that stands alone, or stands under one of these names."""
    values = (place, *_values(place, names))
    return next((value for value in values if isinstance(value, str) and value), None)


def _letters(name: str) -> str:
    return "".join(filter(str.isalpha, name)).lower()
