"""What a call asks for, made into the API's request."""

from sync_mcp.api.fields import REQUEST
from sync_mcp.api.models import GenerationRequest
from sync_mcp.requests.wanted import make_request
from sync_mcp.tools.account import Account
from sync_mcp.tools.generation_arguments import EstimateArguments, RequestArguments


async def read_request(
    account: Account, arguments: RequestArguments, *, is_row: bool = False
) -> GenerationRequest:
    """Return what is to be made or priced; a row of a batch has no webhook of its own.

    Raises:
        InvalidRequestError: all that is wrong with it.
        SyncError: whether there is such a model cannot be told now.
    """
    fields = arguments.model_dump(exclude_none=True, include=set(REQUEST))
    if arguments.model:
        fields["model"] = arguments.model.strip()
    else:
        fields.pop("model", None)
    if account.policy.webhook_url is not None and not is_row:
        fields.setdefault("webhook_url", account.policy.webhook_url)
    if arguments.dialogue_edit_id is not None:
        fields["dialogue_edit"] = {"id": arguments.dialogue_edit_id.strip()}
    return await make_request(account, fields, for_price=isinstance(arguments, EstimateArguments))


def has_image(arguments: RequestArguments) -> bool:
    return any(item.type == "image" for item in arguments.input)
