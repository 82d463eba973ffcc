"""Every error that this package raises on purpose.

SyncError
 x ConfigurationError         a setting is missing or wrong; nothing was sent
 x InvalidRequestError        the request breaks a rule that is known here; nothing was sent
 x FileRefused                a local file cannot be used as it is; nothing was made of it
 x APIConnectionError         the API could not be reached; nothing was sent
 x APITimeoutError            no whole answer within the time limit
 x APIResponseError           an answer that the API does not give: HTML, empty, cut short, a redirect
 x APIStatusError             the API said no
   · RequestRejectedError     400, 413, 422: change the request
   · AuthenticationError      401: change the key
   · PaymentRequiredError     402: billing or plan
   · PermissionDeniedError    403: not with this key
   · NotFoundError            404
   · ConflictError            409
   · RateLimitError           429, too many requests: slow down
   · ConcurrencyLimitError    429, too many jobs at once: wait for one to end
   · NotOffered               the API does not have this for the organization; nothing was made
   · ServerError              408, 5xx, and statuses that nobody documents: try later
 x WebhookRefused             what came as a webhook is not signed by the API, or not now
 x NoOutput                   a generation has no output to fetch: it runs still, or failed
 x OutcomeUnknown             a create was sent, and whether the API took it cannot be known
 x NotVisibleYet              a job was made, and the API's reads do not show it: wait, do not make it again
 x LedgerError                the ledger of paid calls cannot be used; nothing was sent
 x LimitReached               it would cost more than the user's limits allow; nothing was sent
 x QuoteRefused               the quote is not for this call, or no longer good; nothing was sent
 x ApprovalRequired           the user has to agree first; nothing was sent
 x ApprovalDenied             the user did not agree; nothing was sent
 x ReadOnlyError              the server was started so that nothing can be paid or changed
 x ToolOff                    the tool is not among those that are on
 x NotSent                    a create may not go out any more, and nothing was sent; for who keeps book
 x UnderWay                   it did not end in this call's time and goes on: a transfer, or the same create
 x InternalError              a fault of this package

`code` is one of `Code`, and always a word of ours. What the API says stands apart from it: its `errorCode` in
`api_code`, its words in `api_says`.
"""

from sync_mcp.errors.api import (
    APIConnectionError as APIConnectionError,
    APIResponseError as APIResponseError,
    APIStatusError as APIStatusError,
    APITimeoutError as APITimeoutError,
    AuthenticationError as AuthenticationError,
    ConcurrencyLimitError as ConcurrencyLimitError,
    ConflictError as ConflictError,
    NoOutput as NoOutput,
    NotFoundError as NotFoundError,
    NotOffered as NotOffered,
    PaymentRequiredError as PaymentRequiredError,
    PermissionDeniedError as PermissionDeniedError,
    RateLimitError as RateLimitError,
    RequestRejectedError as RequestRejectedError,
    ServerError as ServerError,
    WebhookRefused as WebhookRefused,
    is_unknown_id as is_unknown_id,
)
from sync_mcp.errors.base import MoneySpent as MoneySpent, SyncError as SyncError
from sync_mcp.errors.codes import Code as Code
from sync_mcp.errors.local import (
    ConfigurationError as ConfigurationError,
    FileRefused as FileRefused,
    Handle as Handle,
    InternalError as InternalError,
    InvalidRequestError as InvalidRequestError,
    ReadOnlyError as ReadOnlyError,
    ToolOff as ToolOff,
    Transfer as Transfer,
    UnderWay as UnderWay,
)
from sync_mcp.errors.money import (
    ApprovalDenied as ApprovalDenied,
    ApprovalRequired as ApprovalRequired,
    DoubtReason as DoubtReason,
    LedgerError as LedgerError,
    LimitReached as LimitReached,
    NotSent as NotSent,
    NotVisibleYet as NotVisibleYet,
    OutcomeUnknown as OutcomeUnknown,
    QuoteRefused as QuoteRefused,
    Standing as Standing,
)
