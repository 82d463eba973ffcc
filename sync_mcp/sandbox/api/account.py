"""The routes of the organization: models, error codes, the account, feedback, the secret (API §7, §11)."""

from datetime import timedelta
from typing import Annotated, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import api_key, as_json, require_key
from sync_mcp.sandbox.api.bodies import Body, read_body
from sync_mcp.sandbox.api.catalogue import CATALOGUE, refusal
from sync_mcp.sandbox.world import World

_DESCRIPTIONS = {
    "sync-3": ("3", "The newest model; takes an image or a video."),
    "lipsync-2": ("2", "Lip-sync in the speaker's own style."),
    "lipsync-2-pro": ("2", "As lipsync-2, with more detail."),
    "lipsync-1.9.0-beta": ("1.9.0", "The cheapest and fastest model."),
    "react-1": ("1", "Changes the whole face, for inputs of up to 15 seconds."),
}

_FEEDBACK_PER_MINUTE = 30


class _FeedbackBody(Body):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["confusing_error", "bug", "missing_capability", "workaround", "docs", "other"]
    message: Annotated[str, Field(min_length=1)]
    tool: str | None = None
    error_code: str | None = None
    generation_id: str | None = None
    job_id: str | None = None
    severity: str | None = None


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
            Route("/v2/account/organizations", require_key(self.organizations), methods=["GET"]),
            Route("/v2/feedback", require_key(self.feedback), methods=["POST"]),
            Route("/v2/organizations/webhook/secret", require_key(self.webhook_secret), methods=["GET"]),
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
                "organization": _ORGANIZATION,
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

    async def organizations(self, request: Request) -> Response:
        """List the organizations of the key: its own alone."""
        del request
        return as_json({"organizations": [_ORGANIZATION]})

    async def feedback(self, request: Request) -> Response:
        """Take a report; the one path that refuses fields that it does not know."""
        body = await read_body(request, _FeedbackBody)
        contents, now, key = self._world.contents, self._world.clock.now(), api_key(request)
        recent = [at for at in contents.feedback_times.get(key, []) if now - at < timedelta(minutes=1)]
        if len(recent) >= _FEEDBACK_PER_MINUTE:
            raise refusal("rate_limit_exceeded")
        contents.feedback_times[key] = [*recent, now]
        contents.feedback.append(body.model_dump(by_alias=True, exclude_none=True))
        return as_json({"id": self._world.new_id("feedback")}, 201)

    async def webhook_secret(self, request: Request) -> Response:
        """Tell the secret by which webhooks are signed; masked, its ends alone."""
        secret = self._world.settings.webhook_secret
        if request.query_params.get("masked", "").lower() == "true":
            secret = f"{secret[:8]}...{secret[-2:]}"
        return as_json({"secret": secret})


def _model(name: str) -> JsonValue:
    version, description = _DESCRIPTIONS.get(name, ("1", "A model of this sandbox's settings."))
    kind = "react" if name.startswith("react") else "lipsync"
    return {"id": _id(name), "name": name, "type": kind, "version": version, "description": description}


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"sync-sandbox/{name}"))


_ORGANIZATION: dict[str, JsonValue] = {"id": _id("organization"), "name": "Sandbox", "role": "owner"}
