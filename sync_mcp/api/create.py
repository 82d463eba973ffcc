"""The paid create: sent until its outcome is known, and never under a second key.

Every answer falls into one of three. *Not sent*: the API has not seen the request. *Refused*: the API
said no in its own JSON, and nothing was made. *Unknown*: anything else; the job may exist. After an
unknown the API's own list is searched before the same request goes out again under the same key, and it goes
out again only where the whole list shows no job that may be this one, and has had the time to show it: who
knows that the API keeps the key need not wait for that. Where the API named a job, and does not
show it, the list says nothing: then nothing goes out again unless the user agreed to it. Of a kind of which
the API has no list, a repeat is the one way to find out: it goes out where the API's documentation says that
it keeps such keys, and else not at all. What goes out without a key is looked for, and never sent again.

What was sent, and whose a job is, is kept in a book (`book`); the search is in `doubt`, and what is made is
told by its kind (`kinds`).
"""

import logging
import math
import time
from collections.abc import Mapping
from typing import Generic, cast

from pydantic import ValidationError

from sync_mcp.api.book import Book, Create, MemoryBook
from sync_mcp.api.doubt import SEARCH_SECONDS, Finding, Search
from sync_mcp.api.http import Call, Transport
from sync_mcp.api.kinds import JobKind, JobT
from sync_mcp.api.models import Json
from sync_mcp.api.options import IDEMPOTENCY_HEADER, RequestOptions
from sync_mcp.api.replies import Reply
from sync_mcp.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConcurrencyLimitError,
    ConflictError,
    NotOffered,
    NotSent,
    OutcomeUnknown,
    RateLimitError,
    RequestRejectedError,
    SyncError,
)
from sync_mcp.texts import ID_LIMIT, plain_id, safe

logger = logging.getLogger("sync_mcp.api")

_REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
_FAULTS_OF_THE_MOMENT = ("idempotency", "elevenlabs_", "generation_", "controller_", "internal_", "usage_")
"""How the codes begin of what fails for a while: none of them says that a thing is not offered."""
LISTED_WITHIN_SECONDS = 60.0
"""How long after a send its job may be missing in the API's list: half of that it may be on its way, and the
list may lag behind for as long."""
_SENDS = 2
"""In one call: what two sends under one key did not bring about, a third would not."""
_SEND_SECONDS = 30.0


class Creator:
    """Makes creates over one transport, and remembers which jobs they made."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.memory = MemoryBook(transport)

    async def create_as(
        self,
        kind: JobKind[JobT],
        book: Book,
        key: str,
        body: Json,
        options: RequestOptions | None = None,
    ) -> JobT:
        """Make a job of this JSON, of which `book` is kept; one that was sent before is looked for first.

        Raises:
            NotSent: the book does not let it go out; nothing was sent.
            APIConnectionError: nothing was sent.
            NotOffered: the API does not have such jobs for this organization; nothing was made.
            APIStatusError: the API refused; nothing was made.
            OutcomeUnknown: it was sent, and the budget ended before the outcome was known.
        """
        given = options or RequestOptions()
        whole = {**body, **given.get("additional_body_parameters", {})}
        create = Create(kind, key, whole, book, self._transport)
        resolver = _Resolver(kind, create, self.memory, self._transport, body, given)
        try:
            job = await resolver.run()
        except BaseException as error:
            if isinstance(error, SyncError) and not isinstance(error, OutcomeUnknown):
                self.memory.resolve(create)
            else:
                # One that was cancelled on its way is in doubt too.
                self.memory.leave_in_doubt(create)
            raise
        self.memory.resolve(create)
        mark = " (SANDBOX)" if self._transport.sandboxed else ""
        logger.info("create key=%s accepted as %s %s%s", key, kind.name, safe(job.id, ID_LIMIT), mark)
        return job


class _Resolver(Generic[JobT]):
    """Brings one create to a known outcome, or to the end of its budget."""

    def __init__(
        self,
        kind: JobKind[JobT],
        create: Create,
        memory: MemoryBook,
        transport: Transport,
        body: Json,
        options: RequestOptions,
    ) -> None:
        self._kind = kind
        self._create = create
        self._book = create.book
        self._memory = memory
        self._transport = transport
        self._options = options
        self._budget = transport.budget(options)
        headers = {IDEMPOTENCY_HEADER: create.key} if kind.has_keys else {}
        self._call = Call("POST", kind.path, body=body, headers=headers)
        self._search = Search(kind, transport, memory, create, self._budget, options)
        self._in_doubt = create.was_sent
        if self._in_doubt:
            # The first send of this call is no repeat of its own.
            self._budget.retries_left += 1
        self._sends = 0
        self._not_offered = 0
        """How many of them were answered so that such jobs are not offered."""

    async def run(self) -> JobT:
        """Send it, and look for its job, until its outcome is known or the budget ends.

        Raises:
            SyncError: as `Creator.create_as`.
        """
        model = self._create.body.get("model")
        logger.info("create key=%s %s model=%s sending", self._create.key, self._kind.name, model)
        if self._in_doubt:
            if not await self._book.is_permitted():
                self._budget.retries_left = 0
            found = await self._find_or_pause(APITimeoutError("An earlier send was not clearly answered."))
            if found is not None:
                return found
        while True:
            was_in_doubt = self._in_doubt
            try:
                return await self._send()
            except SyncError as error:
                failure = error
            if isinstance(failure, ConflictError) and not was_in_doubt and self._kind.has_keys:
                # Its key was used before, by whom and when only the API knows.
                self._create.sends.was_received = True
            if self._in_doubt:
                logger.warning("create key=%s outcome unknown: %s", self._create.key, failure)
                if self._is_refusal(failure) and not isinstance(
                    failure, RateLimitError | ConcurrencyLimitError
                ):
                    # It would be refused again under this key.
                    self._budget.retries_left = 0
                found = await self._find_or_pause(failure)
                if found is not None:
                    return found
            elif not isinstance(failure, APIConnectionError) or not await self._budget.pause():
                raise failure

    async def _send(self) -> JobT:
        if not await self._book.permit():
            self._budget.retries_left = 0
            raise NotSent("It may not be sent any more by this call.")
        await self._book.note("sends")
        left = self._budget.seconds_left
        if not self._kind.leaves_no_trace:
            # A create in doubt needs time for a look at the list. Without one the answer is all there is.
            left = min(_SEND_SECONDS, max(left - SEARCH_SECONDS, left / 2))
        # From here on the API may have it, even if the call is cancelled on the way.
        self._sends += 1
        before, since = self._create.sends.sent_at, self._create.seconds_since_send
        self._create.sends.sent_at = time.monotonic()
        try:
            with self._memory.expect_answer(self._create):
                reply = await self._transport.send(
                    self._call,
                    self._budget,
                    self._options,
                    send_seconds=left,
                )
        except APIConnectionError:
            self._sends -= 1
            self._create.sends.sent_at = before
            await self._book.note("made nothing")
            raise
        except (APITimeoutError, APIResponseError):
            self._in_doubt = True
            raise
        try:
            return self._accept(reply, since)
        except APIStatusError as error:
            if isinstance(error, NotOffered) or self._is_refusal(error):
                self._create.sends.sent_at = before
                await self._book.note("made nothing")
            raise

    async def _look(self) -> Finding[JobT]:
        await self._book.note("looks")
        return await self._search.run()

    def _accept(self, reply: Reply, since_last_send: float) -> JobT:
        body = reply.fields
        if reply.ok and body:
            try:
                job = self._kind.model.from_wire(body)
            except ValidationError:
                pass
            else:
                if plain_id(job.id):
                    self._memory.note_answer(self._create, job.id, since_last_send)
                    return job
            self._in_doubt = True
            self._note_named(body, *self._kind.named_in, "id")
            raise APIResponseError(
                f"The API's answer to the create (HTTP {reply.status}) is no {self._kind.name}.",
                status=reply.status,
            )
        error = self._transport.error_from(reply)
        if self._says_not_offered(error, reply):
            raise NotOffered.of(cast(APIStatusError, error))
        if self._is_refusal(error) and not _is_the_apis_own(reply):
            # A gateway says so too, of a request that went through it.
            error = APIResponseError(
                f"HTTP {reply.status} is not the API's own refusal.", status=reply.status
            )
        if self._in_doubt and _knows_the_key(error) and _is_the_apis_own(reply):
            self._memory.note_kept(self._kind, since_last_send)
        if self._book.repeats_made_job and is_of_the_key(error) and _is_the_apis_own(reply):
            raise error
        if not self._is_refusal(error):
            self._in_doubt = True
            self._note_named(body, *self._kind.named_in)
        # A refusal of a repeat says nothing about the send before it: the doubt stays.
        raise error

    def _says_not_offered(self, error: SyncError, reply: Reply) -> bool:
        """Return whether such jobs are not offered here: said of all sends, and twice.

        It may be said of a fault of the moment too. What had made a job nevertheless, and keeps the key,
        would have answered the second send with it.
        """
        if reply.status != self._kind.not_offered_status or not _is_the_apis_own(reply):
            return False
        code = (error.api_code or "").casefold()
        if code.startswith(_FAULTS_OF_THE_MOMENT) or self._create.sends.named_id is not None:
            return False
        self._not_offered += 1
        if self._create.was_sent or not 1 < self._sends == self._not_offered:
            return False
        self._in_doubt = False
        return True

    def _is_refusal(self, error: SyncError) -> bool:
        is_known = (error.api_code or "") in self._kind.refused_by
        return isinstance(error, APIStatusError) and (error.status in _REFUSALS or is_known)

    def _note_named(self, body: Mapping[str, object], *fields: str) -> None:
        for field in fields:
            self._create.note_named(body.get(field))

    async def _find_or_pause(self, failure: SyncError) -> JobT | None:
        """Return the job that was made after all, or None when the same request may go out again."""
        search = await self._look()
        while search.found is None:
            # Where nothing can be found out, there is nothing to wait for.
            is_over = search.reason == "untraceable"
            if is_over or not await self._budget.pause(failure.retry_after_seconds):
                raise self._tell_unknown(failure, search) from failure
            # Looked for once more: it may have come into the list during the pause.
            search = await self._look()
            may_repeat = self._kind.has_keys and self._sends < _SENDS and self._seconds_to_wait <= 0
            if search.found is None and search.reason in ("not_found", "no_list") and may_repeat:
                return None
        return search.found

    @property
    def _seconds_to_wait(self) -> float:
        """How long a list may still come to show the job of the last send; 0 where the key is kept."""
        age = (self._transport.api_time - self._create.sent_by_the_apis_clock).total_seconds()
        is_listed = self._kind.listed is not None and self._kind.has_keys
        if not is_listed or self._memory.keeps_keys_for(self._kind, age):
            return 0.0
        return max(0.0, min(LISTED_WITHIN_SECONDS, LISTED_WITHIN_SECONDS - self._create.seconds_since_send))

    def _tell_unknown(self, failure: SyncError, search: Finding[JobT]) -> OutcomeUnknown:
        is_missing = search.reason == "not_found"
        used_up = is_missing and self._sends >= _SENDS
        wait = self._seconds_to_wait if is_missing else 0.0
        # The API tells its time in whole seconds: the call that comes then must not be early.
        seconds = math.ceil(wait) + 1 if wait else 0
        return OutcomeUnknown(
            failure.message,
            idempotency_key=self._create.key if self._kind.has_keys else "",
            sent_at=self._create.sends.first_sent_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            generation_id=self._create.sends.named_id,
            advice=failure.next_step if self._is_refusal(failure) else "",
            reason="sends_used_up" if used_up else search.reason,
            maybe_ids=search.maybe_ids,
            search_failure=search.failure,
            retry_after_seconds=seconds or None,
            api_code=failure.api_code,
            api_says=failure.api_says,
            job=self._kind.name,
        )


def _knows_the_key(error: SyncError) -> bool:
    return isinstance(error, ConflictError) and _names_the_key(error)


def is_of_the_key(error: SyncError) -> bool:
    """Return whether a repeat was refused for its key, in whatever status the API says so."""
    return isinstance(error, ConflictError) or (
        isinstance(error, RequestRejectedError) and _names_the_key(error)
    )


def _names_the_key(error: SyncError) -> bool:
    return (error.api_code or "").casefold().startswith("idempotency")


def _is_the_apis_own(reply: Reply) -> bool:
    body = reply.fields
    return body.get("statusCode") == reply.status or any(
        isinstance(body.get(name), str) for name in ("errorCode", "error_code")
    )
