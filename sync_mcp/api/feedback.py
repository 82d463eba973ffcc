"""Feedback: what is wrong or missing, told to Sync (API §11)."""

from typing import Literal

from sync_mcp.api.http import Call, Transport
from sync_mcp.api.options import RequestOptions
from sync_mcp.errors import InvalidRequestError

FeedbackKind = Literal["confusing_error", "bug", "missing_capability", "workaround", "docs", "other"] | str


class Feedback:
    """What is told to Sync; reached as `AsyncSync.feedback`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(
        self,
        kind: FeedbackKind,
        message: str,
        *,
        tool: str | None = None,
        error_code: str | None = None,
        generation_id: str | None = None,
        job_id: str | None = None,
        severity: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> None:
        """Tell Sync of something. It goes out once: a report whose answer is lost is not sent again.

        Raises:
            SyncError: it was not taken, or nobody knows whether it was.
        """
        if not message.strip():
            raise InvalidRequestError("message is empty: say what is wrong.")
        fields = {
            "kind": kind,
            "message": message,
            "tool": tool,
            "errorCode": error_code,
            "generationId": generation_id,
            "jobId": job_id,
            "severity": severity,
        }
        # Alone among the API's paths, this one refuses a field that it does not know (API §11).
        body = {name: value for name, value in fields.items() if value is not None}
        budget = self._transport.budget(request_options)
        reply = await self._transport.send(Call("POST", "/v2/feedback", body=body), budget, request_options)
        if not reply.ok:
            raise self._transport.error_from(reply)
