"""The three paths that tell what a generation would cost (API §4)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_mcp.sandbox.api import rules
from sync_mcp.sandbox.api.answers import as_json, json_body, require_key
from sync_mcp.sandbox.api.catalogue import Refusal, bare_refusal, refusal
from sync_mcp.sandbox.api.contract import read_create, sentences
from sync_mcp.sandbox.api.inputs import MediaInputs
from sync_mcp.sandbox.api.planning import quote
from sync_mcp.sandbox.world import World

DEFAULT_FPS = 30


class _EstimateBody(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    model: str
    duration: Annotated[float, Field(gt=0, le=86_400)]
    fps: Annotated[float, Field(gt=0, le=1000)] = DEFAULT_FPS
    reasoning_enabled: bool | None = None


class Estimates:
    """Prices generations without making them."""

    def __init__(self, world: World, inputs: MediaInputs) -> None:
        self._world = world
        self._inputs = inputs

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v2/analyze/cost", require_key(self.by_request), methods=["POST"]),
            Route("/v2/generations/estimate", require_key(self.by_duration), methods=["POST"]),
            Route("/v2/generate/estimate-cost", require_key(self.by_duration), methods=["POST"]),
        ]

    async def by_request(self, request: Request) -> Response:
        """Price the body of a create, having looked at its media: an array of one."""
        settings = self._world.settings
        create = read_create(await json_body(request), settings.models)
        contents = self._world.contents
        rules.check(create, settings, contents.projects, contents.clone_names)
        try:
            made = await quote(create, self._inputs, settings)
        except Refusal as refused:
            if not str(refused.body["errorCode"]).endswith("_inaccessible"):
                raise
            raise refusal("cost_estimate_unavailable", field=str(refused.body["field"])) from refused
        return as_json(
            [{"estimatedFrameCount": made.frames, "estimatedGenerationCost": float(made.cost_usd)}]
        )

    async def by_duration(self, request: Request) -> Response:
        """Price a model, a duration and a frame rate: an object."""
        settings = self._world.settings
        try:
            body = _EstimateBody.model_validate(await json_body(request))
        except ValidationError as error:
            raise bare_refusal(400, sentences(error)) from error
        if body.model not in settings.models:
            raise bare_refusal(400, [f"model must be one of: {', '.join(settings.models)}"])
        frames = round(body.duration * body.fps)
        cost = float(frames * settings.frame_price(body.model))
        # None of these plans is paid by credits.
        return as_json(
            {"estimatedFrameCount": frames, "estimatedGenerationCost": cost, "estimatedCredits": None}
        )
