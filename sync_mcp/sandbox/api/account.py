"""The routes that tell what there is: models, error codes, the account (API §7, §11)."""

from uuid import NAMESPACE_URL, uuid5

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import as_json, require_key
from sync_mcp.sandbox.api.catalogue import CATALOGUE
from sync_mcp.sandbox.world import World

_DESCRIPTIONS = {
    "sync-3": ("3", "The newest model; takes an image or a video."),
    "lipsync-2": ("2", "Lip-sync in the speaker's own style."),
    "lipsync-2-pro": ("2", "As lipsync-2, with more detail."),
    "lipsync-1.9.0-beta": ("1.9.0", "The cheapest and fastest model."),
    "react-1": ("1", "Changes the whole face, for inputs of up to 15 seconds."),
}


class Account:
    """Tells about models, errors and the organization."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v2/models", require_key(self.models), methods=["GET"]),
            Route("/v2/errors", self.errors, methods=["GET"]),
            Route("/v2/account", require_key(self.account), methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """List the models; `name` is what a create takes."""
        del request
        return as_json([_model(name) for name in self._world.settings.models])

    async def errors(self, request: Request) -> Response:
        """List the error codes; the one API path that wants no key."""
        del request
        return as_json(
            [
                {"code": code, "message": entry.message, "suggestion": entry.suggestion}
                for code, entry in CATALOGUE.items()
            ]
        )

    async def account(self, request: Request) -> Response:
        """Tell the plan and what it allows; the fields inside plan, limits and balance are a guess."""
        del request
        world = self._world
        plan = world.settings.plan
        limits = world.settings.limits
        spent = sum(charge.amount_usd for charge in world.charges())
        return as_json(
            {
                "account": {"id": _id("account"), "name": "Sandbox user"},
                "organization": {"id": _id("organization"), "name": "Sandbox", "role": "owner"},
                "credentialType": "api_key",
                "plan": {"name": plan},
                "limits": {
                    "concurrency": limits.concurrency,
                    "maxDurationSeconds": limits.longest_seconds,
                    "generationsPerMonth": limits.generations_per_month,
                },
                "balance": {"currency": "USD", "spentUsd": str(spent)},
                "billingModel": plan if plan in ("free", "enterprise") else "usage",
                "billingUrl": f"{world.base_url}/sandbox",
            }
        )


def _model(name: str) -> JsonValue:
    version, description = _DESCRIPTIONS.get(name, ("1", "A model of this sandbox's settings."))
    kind = "react" if name.startswith("react") else "lipsync"
    return {"id": _id(name), "name": name, "type": kind, "version": version, "description": description}


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"sync-sandbox/{name}"))
