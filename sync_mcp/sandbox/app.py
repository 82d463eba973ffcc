"""The application of the sandbox: every route of the API that it keeps, the storage, and the control paths.

The API: `POST /v2/generate`, `GET /v2/generate/{id}`, `/v2/generations...`, the three estimates,
`/v2/usage/generations`, `/v2/projects...`, `/v2/assets...`, `/v2/voices...`, `/v2/tts...`, `/v2/batch...`,
`/v2/batches/{id}/result`, `/v2/models`, `/v2/errors`, `/v2/account...`, `/v2/feedback`,
`/v2/organizations/webhook/secret`. The storage, which wants no key: `/samples/`, `/storage/` (presigned
uploads), `/outputs/`, `/speech/` and `/batch-results/`.
Control paths: `sync_mcp.sandbox.faults.control`.
"""

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from sync_mcp.sandbox.api.account import Account
from sync_mcp.sandbox.api.answers import refusal_answer, storage_refusal_answer
from sync_mcp.sandbox.api.assets import Assets
from sync_mcp.sandbox.api.batches import Batches
from sync_mcp.sandbox.api.catalogue import Refusal, refusal
from sync_mcp.sandbox.api.dialogue_edits import DialogueEdits
from sync_mcp.sandbox.api.estimates import Estimates
from sync_mcp.sandbox.api.files import Files
from sync_mcp.sandbox.api.generations import Generations
from sync_mcp.sandbox.api.inputs import MediaInputs
from sync_mcp.sandbox.api.projects import Projects
from sync_mcp.sandbox.api.speech import Speech
from sync_mcp.sandbox.api.transcriptions import Transcriptions
from sync_mcp.sandbox.api.usage import Usage
from sync_mcp.sandbox.api.voices import Voices
from sync_mcp.sandbox.faults.control import Control
from sync_mcp.sandbox.faults.exchange import Exchanges
from sync_mcp.sandbox.media.storage import StorageRefusal
from sync_mcp.sandbox.world import World

logger = logging.getLogger("sync_mcp.sandbox")


def create_app(world: World) -> tuple[ASGIApp, Generations]:
    """Return the application over a world, and the part of it that shows generations."""
    files = Files(world)
    inputs = MediaInputs(world, files.find)
    generations = Generations(world, inputs, files)
    parts = (
        Estimates(world, inputs),
        generations,
        Usage(world),
        Projects(world),
        Assets(world),
        Voices(world, files.find),
        Speech(world, inputs, files),
        Transcriptions(world, files),
        DialogueEdits(world, files),
        Batches(world, inputs, files),
        Account(world),
        files,
        Control(world, generations),
    )
    app = Starlette(
        routes=[route for part in parts for route in part.routes()],
        exception_handlers={
            HTTPException: _no_route,
            Refusal: _answer_refusal,
            StorageRefusal: _answer_storage_refusal,
            Exception: _answer_errors(world),
        },
    )
    app.router.redirect_slashes = False
    return Exchanges(app, world), generations


async def _no_route(request: Request, error: Exception) -> Response:
    # A wrong method on a known path is answered like an unknown path.
    del error
    message = f"Cannot {request.method} {request.url.path}"
    return JSONResponse({"message": message, "error": "Not Found", "statusCode": 404}, 404)


async def _answer_refusal(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, Refusal)
    return refusal_answer(error)


async def _answer_storage_refusal(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, StorageRefusal)
    return storage_refusal_answer(error)


def _answer_errors(world: World):
    async def answer(request: Request, error: Exception) -> Response:
        del request, error
        return refusal_answer(refusal("internal_error", more={"requestId": world.new_id("request")}))

    return answer
