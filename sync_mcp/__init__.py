"""sync_mcp: lip-synced and dubbed video for AI assistants, and the async Sync API client beneath it."""

from importlib import import_module
from typing import TYPE_CHECKING

from sync_mcp._version import __version__ as __version__

if TYPE_CHECKING:
    from sync_mcp.api.account import AccountInfo as AccountInfo, Organization as Organization
    from sync_mcp.api.assets import Asset as Asset, AssetPage as AssetPage
    from sync_mcp.api.batch_results import BatchResult as BatchResult
    from sync_mcp.api.batches import Batch as Batch, BatchRow as BatchRow
    from sync_mcp.api.catalogue import ErrorInfo as ErrorInfo, ModelInfo as ModelInfo
    from sync_mcp.api.client import AsyncSync as AsyncSync, Ping as Ping
    from sync_mcp.api.create_fields import CreateFields as CreateFields
    from sync_mcp.api.dialogue_edits import (
        DialogueEdit as DialogueEdit,
        WordChange as WordChange,
        WordRemoval as WordRemoval,
    )
    from sync_mcp.api.many import CreateMany as CreateMany, CreateOutcome as CreateOutcome
    from sync_mcp.api.models import (
        ActiveSpeaker as ActiveSpeaker,
        Audio as Audio,
        CostEstimate as CostEstimate,
        DialogueEditRef as DialogueEditRef,
        Dub as Dub,
        Generation as Generation,
        GenerationCost as GenerationCost,
        GenerationOptions as GenerationOptions,
        GenerationRequest as GenerationRequest,
        GenerationStatus as GenerationStatus,
        Image as Image,
        Input as Input,
        ModelName as ModelName,
        OtherInput as OtherInput,
        Segment as Segment,
        SegmentAudioInput as SegmentAudioInput,
        SegmentOptions as SegmentOptions,
        Text as Text,
        Video as Video,
    )
    from sync_mcp.api.options import RequestOptions as RequestOptions
    from sync_mcp.api.projects import Project as Project, ProjectPage as ProjectPage
    from sync_mcp.api.speech import Speech as Speech
    from sync_mcp.api.transcriptions import (
        Transcript as Transcript,
        Transcription as Transcription,
        TranscriptSegment as TranscriptSegment,
        Word as Word,
    )
    from sync_mcp.api.usage import UsageItem as UsageItem, UsagePage as UsagePage
    from sync_mcp.api.voices import ClonedVoice as ClonedVoice, Voice as Voice
    from sync_mcp.api.webhooks import WebhookEvent as WebhookEvent
    from sync_mcp.campaigns.campaigns import Campaigns as Campaigns
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
        FileRefused as FileRefused,
        InternalError as InternalError,
        InvalidRequestError as InvalidRequestError,
        LedgerError as LedgerError,
        LimitReached as LimitReached,
        NoOutput as NoOutput,
        NotFoundError as NotFoundError,
        NotOffered as NotOffered,
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
        Transfer as Transfer,
        UnderWay as UnderWay,
        WebhookRefused as WebhookRefused,
    )
    from sync_mcp.payments.guard import Guard as Guard
    from sync_mcp.payments.ledger import Ledger as Ledger
    from sync_mcp.payments.limits import Limits as Limits
    from sync_mcp.server import create_server as create_server
    from sync_mcp.settings import Settings as Settings


# What is above for type checkers, for the first use of a name: importing the package must not pay for an HTTP
# library or a hundred models. A program without its source, in a zip or frozen, has this alone.
_HOMES = {
    "sync_mcp.api.account": ("AccountInfo", "Organization"),
    "sync_mcp.api.assets": (
        "Asset",
        "AssetPage",
    ),
    "sync_mcp.api.batch_results": ("BatchResult",),
    "sync_mcp.api.batches": ("Batch", "BatchRow"),
    "sync_mcp.api.catalogue": ("ErrorInfo", "ModelInfo"),
    "sync_mcp.api.client": (
        "AsyncSync",
        "Ping",
    ),
    "sync_mcp.api.create_fields": ("CreateFields",),
    "sync_mcp.api.dialogue_edits": ("DialogueEdit", "WordChange", "WordRemoval"),
    "sync_mcp.api.many": ("CreateMany", "CreateOutcome"),
    "sync_mcp.api.models": (
        "ActiveSpeaker",
        "Audio",
        "CostEstimate",
        "DialogueEditRef",
        "Dub",
        "Generation",
        "GenerationCost",
        "GenerationOptions",
        "GenerationRequest",
        "GenerationStatus",
        "Image",
        "Input",
        "ModelName",
        "OtherInput",
        "Segment",
        "SegmentAudioInput",
        "SegmentOptions",
        "Text",
        "Video",
    ),
    "sync_mcp.api.options": ("RequestOptions",),
    "sync_mcp.api.projects": ("Project", "ProjectPage"),
    "sync_mcp.api.speech": ("Speech",),
    "sync_mcp.api.transcriptions": ("Transcript", "TranscriptSegment", "Transcription", "Word"),
    "sync_mcp.api.usage": (
        "UsageItem",
        "UsagePage",
    ),
    "sync_mcp.api.voices": ("ClonedVoice", "Voice"),
    "sync_mcp.api.webhooks": ("WebhookEvent",),
    "sync_mcp.campaigns.campaigns": ("Campaigns",),
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
        "FileRefused",
        "InternalError",
        "InvalidRequestError",
        "LedgerError",
        "LimitReached",
        "NoOutput",
        "NotFoundError",
        "NotOffered",
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
        "ToolOff",
        "Transfer",
        "UnderWay",
        "WebhookRefused",
    ),
    "sync_mcp.payments.guard": ("Guard",),
    "sync_mcp.payments.ledger": ("Ledger",),
    "sync_mcp.payments.limits": ("Limits",),
    "sync_mcp.server": ("create_server",),
    "sync_mcp.settings": ("Settings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__all__":
        return __dir__()
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME_OF, "__version__"])
