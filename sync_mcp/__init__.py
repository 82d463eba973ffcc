"""sync_mcp: lip-synced and dubbed video for AI assistants, and the async Sync API client beneath it."""

from importlib import import_module
from typing import TYPE_CHECKING

from sync_mcp._version import __version__

if TYPE_CHECKING:
    from sync_mcp.api.account import AccountInfo
    from sync_mcp.api.assets import Asset, AssetPage
    from sync_mcp.api.client import AsyncSync, Ping
    from sync_mcp.api.many import CreateFields, CreateMany, CreateOutcome
    from sync_mcp.api.models import (
        ActiveSpeaker,
        Audio,
        CostEstimate,
        Dub,
        ErrorInfo,
        Generation,
        GenerationCost,
        GenerationOptions,
        GenerationRequest,
        GenerationStatus,
        Image,
        Input,
        ModelInfo,
        ModelName,
        OtherInput,
        Segment,
        SegmentAudioInput,
        SegmentOptions,
        Text,
        Video,
    )
    from sync_mcp.api.options import RequestOptions
    from sync_mcp.api.uploads import Transfer
    from sync_mcp.api.usage import UsageItem, UsagePage
    from sync_mcp.api.voices import Voice
    from sync_mcp.errors import (
        APIConnectionError,
        APIResponseError,
        APIStatusError,
        APITimeoutError,
        ApprovalDenied,
        ApprovalRequired,
        AuthenticationError,
        ConcurrencyLimitError,
        ConfigurationError,
        ConflictError,
        CreateUnderWay,
        FileRefused,
        InternalError,
        InvalidRequestError,
        LedgerError,
        LimitReached,
        NoOutput,
        NotFoundError,
        NotSent,
        NotVisibleYet,
        OutcomeUnknown,
        PaymentRequiredError,
        PermissionDeniedError,
        QuoteRefused,
        RateLimitError,
        ReadOnlyError,
        RequestRejectedError,
        ServerError,
        SyncError,
        TransferUnderWay,
    )
    from sync_mcp.payments.guard import Guard
    from sync_mcp.payments.ledger import Ledger
    from sync_mcp.payments.limits import Limits
    from sync_mcp.server import create_server
    from sync_mcp.settings import Settings

# Resolved on first use: importing the package must not pay for an HTTP library or a hundred models.
_HOMES = {
    "sync_mcp.api.account": ("AccountInfo",),
    "sync_mcp.api.assets": ("Asset", "AssetPage"),
    "sync_mcp.api.client": ("AsyncSync", "Ping"),
    "sync_mcp.api.many": ("CreateFields", "CreateMany", "CreateOutcome"),
    "sync_mcp.api.models": (
        "ActiveSpeaker",
        "Audio",
        "CostEstimate",
        "Dub",
        "ErrorInfo",
        "Generation",
        "GenerationCost",
        "GenerationOptions",
        "GenerationRequest",
        "GenerationStatus",
        "Image",
        "Input",
        "ModelInfo",
        "ModelName",
        "OtherInput",
        "Segment",
        "SegmentAudioInput",
        "SegmentOptions",
        "Text",
        "Video",
    ),
    "sync_mcp.api.options": ("RequestOptions",),
    "sync_mcp.api.uploads": ("Transfer",),
    "sync_mcp.api.usage": ("UsageItem", "UsagePage"),
    "sync_mcp.api.voices": ("Voice",),
    "sync_mcp.errors": (
        "APIConnectionError",
        "APIResponseError",
        "APIStatusError",
        "APITimeoutError",
        "ApprovalDenied",
        "ApprovalRequired",
        "AuthenticationError",
        "ConcurrencyLimitError",
        "ConfigurationError",
        "ConflictError",
        "CreateUnderWay",
        "FileRefused",
        "InternalError",
        "InvalidRequestError",
        "LedgerError",
        "LimitReached",
        "NoOutput",
        "NotFoundError",
        "NotSent",
        "NotVisibleYet",
        "OutcomeUnknown",
        "PaymentRequiredError",
        "PermissionDeniedError",
        "QuoteRefused",
        "RateLimitError",
        "ReadOnlyError",
        "RequestRejectedError",
        "ServerError",
        "SyncError",
        "TransferUnderWay",
    ),
    "sync_mcp.payments.guard": ("Guard",),
    "sync_mcp.payments.ledger": ("Ledger",),
    "sync_mcp.payments.limits": ("Limits",),
    "sync_mcp.server": ("create_server",),
    "sync_mcp.settings": ("Settings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AccountInfo",
    "ActiveSpeaker",
    "ApprovalDenied",
    "ApprovalRequired",
    "Asset",
    "AssetPage",
    "AsyncSync",
    "Audio",
    "AuthenticationError",
    "ConcurrencyLimitError",
    "ConfigurationError",
    "ConflictError",
    "CostEstimate",
    "CreateFields",
    "CreateMany",
    "CreateOutcome",
    "CreateUnderWay",
    "Dub",
    "ErrorInfo",
    "FileRefused",
    "Generation",
    "GenerationCost",
    "GenerationOptions",
    "GenerationRequest",
    "GenerationStatus",
    "Guard",
    "Image",
    "Input",
    "InternalError",
    "InvalidRequestError",
    "Ledger",
    "LedgerError",
    "LimitReached",
    "Limits",
    "ModelInfo",
    "ModelName",
    "NoOutput",
    "NotFoundError",
    "NotSent",
    "NotVisibleYet",
    "OtherInput",
    "OutcomeUnknown",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Ping",
    "QuoteRefused",
    "RateLimitError",
    "ReadOnlyError",
    "RequestOptions",
    "RequestRejectedError",
    "Segment",
    "SegmentAudioInput",
    "SegmentOptions",
    "ServerError",
    "Settings",
    "SyncError",
    "Text",
    "Transfer",
    "TransferUnderWay",
    "UsageItem",
    "UsagePage",
    "Video",
    "Voice",
    "__version__",
    "create_server",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
