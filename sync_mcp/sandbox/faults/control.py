"""The control paths under /sandbox: what the Python handle can do, for any language.

They are not recorded, and take no key unless the sandbox has a token. `GET /sandbox` describes them.
"""

from typing import Annotated, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api.answers import INVALID_KEY, as_json, json_body
from sync_mcp.sandbox.api.catalogue import bare_refusal
from sync_mcp.sandbox.api.contract import sentences
from sync_mcp.sandbox.api.generations import Generations
from sync_mcp.sandbox.api.inputs import ALIASES
from sync_mcp.sandbox.clock import timestamp
from sync_mcp.sandbox.faults.script import Fault
from sync_mcp.sandbox.media.samples import SAMPLE_FILES
from sync_mcp.sandbox.settings import SandboxSettings
from sync_mcp.sandbox.world import World

PATHS = {
    "GET /sandbox": "this description",
    "GET /sandbox/clock": "the sandbox's time",
    "POST /sandbox/clock": 'move the clock: {"advance_seconds": 10}',
    "GET /sandbox/faults": "the faults in force",
    "POST /sandbox/faults": "add a fault: an object of the schema below; answers its id",
    "DELETE /sandbox/faults": "remove all faults",
    "DELETE /sandbox/faults/{id}": "remove one fault",
    "PATCH /sandbox/settings": "change settings: an object of the schema below, as far as it goes",
    "GET /sandbox/requests": "every request to the API and the storage, oldest first",
    "GET /sandbox/charges": "every charge, oldest first, as it truly is whatever the costs say",
    "GET /sandbox/webhooks": "every webhook that was sent, and how it was answered",
    "GET /sandbox/generations": "every generation in its present state, those too that lists leave out",
    "POST /sandbox/reset": "throw everything away and begin anew: {}",
}


def good_keys(*, has_token: bool) -> str:
    """Return which API keys are good, in a sentence."""
    return (
        "Only its token is good as x-api-key." if has_token else f"Any x-api-key is good but {INVALID_KEY}."
    )


class _Advance(BaseModel):
    model_config = ConfigDict(extra="forbid")

    advance_seconds: Annotated[float, Field(ge=0)]


class _Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Control:
    """Moves the clock, sets faults and settings, and shows what was recorded."""

    def __init__(self, world: World, generations: Generations) -> None:
        self._world = world
        self._generations = generations

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/sandbox", self.describe, methods=["GET"]),
            Route("/sandbox/clock", self.show_clock, methods=["GET"]),
            Route("/sandbox/clock", self.advance, methods=["POST"]),
            Route("/sandbox/faults", self.show_faults, methods=["GET"]),
            Route("/sandbox/faults", self.add_fault, methods=["POST"]),
            Route("/sandbox/faults", self.clear_faults, methods=["DELETE"]),
            Route("/sandbox/faults/{id}", self.remove_fault, methods=["DELETE"]),
            Route("/sandbox/settings", self.configure, methods=["PATCH"]),
            Route("/sandbox/requests", self.requests, methods=["GET"]),
            Route("/sandbox/charges", self.charges, methods=["GET"]),
            Route("/sandbox/webhooks", self.webhooks, methods=["GET"]),
            Route("/sandbox/generations", self.generations, methods=["GET"]),
            Route("/sandbox/reset", self.reset, methods=["POST"]),
        ]

    async def describe(self, request: Request) -> Response:
        """Tell what this is and how it is worked."""
        del request
        base = self._world.base_url
        return as_json(
            {
                "about": "A stand-in for the Sync API on this machine. Nothing here costs money.",
                "key": good_keys(has_token=self._world.has_token),
                "samples": [f"{base}/samples/{name}" for name in SAMPLE_FILES],
                "aliases": {url: f"{base}/samples/{name}" for url, name in ALIASES.items()},
                "inputs": "http URLs of this machine, uploaded assets, the samples",
                "speech": "There is no speech engine: a script is spoken by the sample voice.",
                "mark": "Every answer carries the header X-Sync-Sandbox: 1.",
                "fault_header": "X-Sandbox-Fault: a fault as JSON, for one request",
                "project_id": self._world.project_id,
                "paths": dict(PATHS),
                "settings": self._world.settings.model_dump(mode="json"),
                "settings_schema": SandboxSettings.model_json_schema(),
                "fault_schema": Fault.model_json_schema(),
            }
        )

    async def show_clock(self, request: Request) -> Response:
        """Tell the time."""
        del request
        return as_json({"now": timestamp(self._world.clock.now())})

    async def advance(self, request: Request) -> Response:
        """Move the clock."""
        try:
            move = _Advance.model_validate(await _json_body(request))
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        self._world.advance(move.advance_seconds)
        return as_json({"now": timestamp(self._world.clock.now())})

    async def show_faults(self, request: Request) -> Response:
        """Show the faults in force."""
        del request
        return as_json(self._world.faults.listing())

    async def add_fault(self, request: Request) -> Response:
        """Put a fault in force."""
        try:
            fault = Fault.model_validate(await _json_body(request))
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        return as_json({"id": self._world.faults.add(fault)}, 201)

    async def clear_faults(self, request: Request) -> Response:
        """Take all faults out of force."""
        del request
        self._world.faults.clear()
        return as_json([])

    async def remove_fault(self, request: Request) -> Response:
        """Take one fault out of force."""
        if not self._world.faults.remove(str(request.path_params["id"])):
            raise bare_refusal(404, "There is no such fault.")
        return as_json(self._world.faults.listing())

    async def configure(self, request: Request) -> Response:
        """Change settings."""
        changes = await _json_body(request)
        if not isinstance(changes, dict):
            raise bare_refusal(400, ["the body must be a JSON object"])
        try:
            self._world.configure(cast(dict[str, object], changes))
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        return as_json(self._world.settings.model_dump(mode="json"))

    async def requests(self, request: Request) -> Response:
        """Show every request."""
        del request
        return as_json([record.to_json() for record in self._world.records.listing()])

    async def charges(self, request: Request) -> Response:
        """Show every charge."""
        del request
        return as_json([charge.to_json() for charge in self._world.charges()])

    async def webhooks(self, request: Request) -> Response:
        """Show every webhook."""
        del request
        return as_json([webhook.to_json() for webhook in self._world.records.webhooks()])

    async def generations(self, request: Request) -> Response:
        """Show every generation, hidden and forgotten ones too."""
        del request
        shown: list[JsonValue] = [self._generations.wire(job) for job in self._world.contents.jobs.values()]
        return as_json(shown)

    async def reset(self, request: Request) -> Response:
        """Begin anew."""
        try:
            _Nothing.model_validate(await _json_body(request))
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        self._world.reset()
        return as_json({"now": timestamp(self._world.clock.now())})


async def _json_body(request: Request) -> object:
    """Return the JSON body of a request that says so: what a page of others sends unasked never does."""
    if "content-type" not in request.headers:
        raise bare_refusal(415, "The control paths take JSON bodies, with a Content-Type that says so.")
    return await json_body(request)
