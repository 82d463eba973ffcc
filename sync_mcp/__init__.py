"""sync_mcp: lip-synced and dubbed video for AI assistants, and the async Sync API client beneath it."""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sync_mcp._version import __version__ as __version__

# Every public name, once: type checkers read it as it stands, and `_homes` reads it for the first use.
if TYPE_CHECKING:
    from sync_mcp.api.account import AccountInfo as AccountInfo
    from sync_mcp.api.assets import Asset as Asset, AssetPage as AssetPage
    from sync_mcp.api.client import AsyncSync as AsyncSync, Ping as Ping
    from sync_mcp.api.many import (
        CreateFields as CreateFields,
        CreateMany as CreateMany,
        CreateOutcome as CreateOutcome,
    )
    from sync_mcp.api.models import (
        ActiveSpeaker as ActiveSpeaker,
        Audio as Audio,
        CostEstimate as CostEstimate,
        Dub as Dub,
        ErrorInfo as ErrorInfo,
        Generation as Generation,
        GenerationCost as GenerationCost,
        GenerationOptions as GenerationOptions,
        GenerationRequest as GenerationRequest,
        GenerationStatus as GenerationStatus,
        Image as Image,
        Input as Input,
        ModelInfo as ModelInfo,
        ModelName as ModelName,
        OtherInput as OtherInput,
        Segment as Segment,
        SegmentAudioInput as SegmentAudioInput,
        SegmentOptions as SegmentOptions,
        Text as Text,
        Video as Video,
    )
    from sync_mcp.api.options import RequestOptions as RequestOptions
    from sync_mcp.api.uploads import Transfer as Transfer
    from sync_mcp.api.usage import UsageItem as UsageItem, UsagePage as UsagePage
    from sync_mcp.api.voices import Voice as Voice
    from sync_mcp.errors import (
        APIConnectionError as APIConnectionError,
        APIResponseError as APIResponseError,
        APIStatusError as APIStatusError,
        APITimeoutError as APITimeoutError,
        ApprovalDenied as ApprovalDenied,
        ApprovalRequired as ApprovalRequired,
        AuthenticationError as AuthenticationError,
        ConcurrencyLimitError as ConcurrencyLimitError,
        ConfigurationError as ConfigurationError,
        ConflictError as ConflictError,
        CreateUnderWay as CreateUnderWay,
        FileRefused as FileRefused,
        InternalError as InternalError,
        InvalidRequestError as InvalidRequestError,
        LedgerError as LedgerError,
        LimitReached as LimitReached,
        NoOutput as NoOutput,
        NotFoundError as NotFoundError,
        NotSent as NotSent,
        NotVisibleYet as NotVisibleYet,
        OutcomeUnknown as OutcomeUnknown,
        PaymentRequiredError as PaymentRequiredError,
        PermissionDeniedError as PermissionDeniedError,
        QuoteRefused as QuoteRefused,
        RateLimitError as RateLimitError,
        ReadOnlyError as ReadOnlyError,
        RequestRejectedError as RequestRejectedError,
        ServerError as ServerError,
        SyncError as SyncError,
        ToolOff as ToolOff,
        TransferUnderWay as TransferUnderWay,
    )
    from sync_mcp.payments.guard import Guard as Guard
    from sync_mcp.payments.ledger import Ledger as Ledger
    from sync_mcp.payments.limits import Limits as Limits
    from sync_mcp.server import create_server as create_server
    from sync_mcp.settings import Settings as Settings


@cache
def _homes() -> dict[str, str]:
    """Return which module each public name comes from, by the imports above.

    None of them is made before its name is used: importing the package must not pay for an HTTP library or a
    hundred models.
    """
    source = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    [block] = [node for node in source.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports if node.module for alias in node.names}


def __getattr__(name: str) -> object:
    if name == "__all__":
        return __dir__()
    # What begins with an underscore is looked for by the interpreter itself, and is never public.
    home = None if name.startswith("_") else _homes().get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_homes(), "__version__"])
