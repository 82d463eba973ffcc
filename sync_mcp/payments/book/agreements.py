"""What the user agreed to, and what they said no to: quotes and questions, each good once."""

import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import Connection, delete, func, select

from sync_mcp.errors import QuoteRefused
from sync_mcp.payments.attempt import Attempt, Instant, Token
from sync_mcp.payments.book.rules import (
    DAY_SECONDS,
    Moment,
    Rules,
    find_latest,
    find_twin_elsewhere,
    names_of,
)
from sync_mcp.payments.book.sums import is_covered
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.rows import (
    DECLINED,
    QUOTES,
    Entry,
    Quote,
    TokenKind,
    add_quote,
    change_quote,
    find_quotes,
    put,
    quotes_in,
)
from sync_mcp.texts import plain_id

QUOTE_SECONDS = 600.0
CONSENT_SECONDS = 3600.0
"""How long a quote for several acts waits for the user's yes."""
_STEP_BACK_SECONDS = 60.0
"""How far the clock may be set back under a quote."""
_ASK_AGAIN = {"question": "Make the same call again: the host puts the question to the user."}


class Agreements(Rules):
    """Handing out what a user can agree by, and taking it back."""

    def quote(
        self,
        attempts: Sequence[Attempt],
        now: Instant,
        kind: TokenKind = "quote",
        *,
        caller: str | None = None,
    ) -> str:
        """Hand out what a user can agree by: good once for each attempt, at its price, for this caller.

        It covers that a finished job's URL goes to the webhook of its act, and to nobody else that must be
        asked about, and what its act has the user say besides, word for word. A quote for one act is good for
        ten minutes. One for several is good for an hour, and once the first of them has been made by it, for
        the others without end. A question has no time of ours.
        """
        token_id = f"{'q' if kind == 'quote' else 's'}_{secrets.token_urlsafe(9)}"
        is_one = len(attempts) == 1
        with self.store.transaction() as connection:
            moment = self._moment(connection, now)
            for number, attempt in enumerate(attempts, start=1):
                quote = Quote(
                    id=token_id if is_one else f"{token_id}.{number}",
                    consent=None if is_one else token_id,
                    kind=kind,
                    digest=attempt.intention.digest,
                    body_digest=attempt.intention.body_digest,
                    attempt=attempt.number,
                    price_usd=attempt.price.usd,
                    made_at=moment.day_time,
                    made_at_by_clock=moment.clock,
                    caller=caller,
                    webhook_host=attempt.intention.act.webhook_host,
                    paid_before=attempt.paid_before,
                    known_until=attempt.known_until,
                    avowal=attempt.intention.act.avowal,
                )
                add_quote(connection, quote)
        return token_id

    def question_age(self, token_id: str, caller: str | None = None) -> float | None:
        """Return how many seconds ago a question was put to a caller, or None where there was none."""
        with self.store.reading() as connection:
            question = next(iter(find_quotes(connection, token_id)), None)
            if question is None or question.kind != "question" or question.caller != caller:
                return None
            return self.store.now() - question.made_at_by_clock

    def check_agreed(self, attempts: Sequence[Attempt]) -> None:
        """Check that each of these attempts may go out by its token; none is used up.

        Raises:
            QuoteRefused: the token of one is not for that, or no longer good.
        """
        with self.store.reading() as connection:
            for attempt in attempts:
                moment = self._moment(connection, attempt.now)
                check_token(connection, attempt, moment, find_latest(connection, attempt.intention))

    def find_agreed(self, attempts: Sequence[Attempt]) -> Token | None:
        """Return the yes to several acts that holds for each of these still; None where there is none.

        That it was a yes the others show: one of them was made by it.
        """
        first = attempts[0]
        candidates = (
            select(QUOTES.c.consent, QUOTES.c.kind)
            .where(
                QUOTES.c.body_digest == first.intention.body_digest,
                QUOTES.c.digest == first.intention.digest,
                QUOTES.c.consent.is_not(None),
                QUOTES.c.caller.is_not_distinct_from(first.caller),
                QUOTES.c.used_at.is_(None),
                QUOTES.c.revoked_at.is_(None),
            )
            .order_by(QUOTES.c.made_at_by_clock.desc())
        )
        with self.store.reading() as connection:
            tokens = [Token(consent, kind) for consent, kind in connection.execute(candidates)]
            for token in tokens:
                quotes = find_quotes(connection, token.id)
                if all(quote.used_at is None for quote in quotes):
                    continue
                with suppress(QuoteRefused):
                    for attempt in attempts:
                        moment = self._moment(connection, attempt.now)
                        latest = find_latest(connection, attempt.intention)
                        check_token(connection, replace(attempt, token=token), moment, latest)
                    return token
        return None

    def revoke(self, *intentions: Intention, caller: str | None = None) -> None:
        """Take back a caller's quotes and questions of what is made, of any take: their user said no to it.

        What is named by its files and what is named by their assets is one thing: `intentions` are its names
        as far as they are known.
        """
        bodies = {intention.body_digest for intention in intentions}
        with self.store.transaction() as connection:
            now = self.store.now()
            for body_digest in bodies:
                key = {"body_digest": body_digest, "caller": caller or ""}
                put(connection, DECLINED, key, declined_at=now)
            # One that is used too: its attempt may give it back.
            not_revoked = select(QUOTES).where(
                QUOTES.c.body_digest.in_(bodies) | QUOTES.c.digest.in_(names_of(connection, intentions)),
                QUOTES.c.caller.is_not_distinct_from(caller),
                QUOTES.c.revoked_at.is_(None),
            )
            for quote in quotes_in(connection.execute(not_revoked)):
                change_quote(connection, quote, revoked_at=now)

    def was_declined(self, intention: Intention, caller: str | None) -> bool:
        """Return whether a caller's user said no to it within a day, and has not agreed to it since."""
        with self.store.reading() as connection:
            declined = (
                DECLINED.c.body_digest == intention.body_digest,
                DECLINED.c.caller == (caller or ""),
            )
            declined_at = connection.execute(select(DECLINED.c.declined_at).where(*declined)).scalar()
            return declined_at is not None and 0 <= self.store.now() - declined_at < DAY_SECONDS


def check_token(connection: Connection, attempt: Attempt, now: Moment, latest: Entry | None) -> Quote:
    """Return what the user agreed by to an attempt, where it holds for that now.

    Raises:
        QuoteRefused: it is not for this, or no longer good.
    """
    token = attempt.token
    assert token is not None
    # What is named by its file and what is named by its asset is one thing, once an attempt had both names.
    names = {attempt.intention.digest, *((latest.digest, latest.sent_digest) if latest else ())}
    quotes = find_quotes(connection, token.id)
    quote = _quote_of(quotes, names)
    # What another was asked about is not this one's to agree to, and not this one's to know of.
    if quote is None or quote.kind != token.kind or quote.caller != attempt.caller:
        raise QuoteRefused(f"There is no such {token.kind}.", next_step=_ASK_AGAIN.get(token.kind))
    if quote.consent is not None and quote.digest not in names:
        raise QuoteRefused(f"The {token.kind} is for other calls than this one.")
    if quote.revoked_at is not None:
        raise _refusal_after_no()
    if quote.used_at is not None:
        told = "The quote has been used: it is good for one job."
        if latest is not None and latest.attempt == quote.attempt and latest.state == "refused":
            # The call that it was used by may have ended before it came to know.
            told += (
                f" That one was refused: {plain_id(latest.error_code or '') or 'the API did not say why'}."
            )
        raise QuoteRefused(told)
    if quote.digest not in names or quote.attempt != attempt.number:
        raise QuoteRefused(f"The {token.kind} is for another call than this one.")
    if token.kind == "quote" and _has_expired(quotes, now):
        good_for = "an hour, until the first of its jobs" if quote.consent else "ten minutes"
        raise QuoteRefused(f"The quote has expired: it is good for {good_for}.")
    if attempt.webhook_host is not None and quote.webhook_host != attempt.webhook_host:
        told = "another host for its webhook" if quote.webhook_host else "no webhook"
        raise QuoteRefused(
            f"What the user agreed to names {told}.",
            code="webhook_changed",
            to_user=f"What you agreed to names {told}.",
        )
    if quote.avowal != attempt.intention.act.avowal:
        raise QuoteRefused(
            "The user has agreed to other words of consent than these.",
            to_user="What you agreed to has other words of consent.",
        )
    if attempt.paid_before is not None and quote.paid_before != attempt.paid_before:
        raise QuoteRefused(
            "An earlier attempt at it was charged, or may have been, since the user was told of it.",
            to_user="An earlier attempt at it was charged, or may have been, since you were told of it.",
        )
    check_twins(connection, attempt.intention, quote.known_until)
    if not is_covered(connection, quote.price_usd, attempt, now):
        raise QuoteRefused(
            "The price is no longer what the user was told.",
            code="price_changed",
            to_user="The price is no longer what you were told.",
        )
    return quote


def check_twins(connection: Connection, intention: Intention, known_until: int) -> None:
    """Refuse what was made with another key since the user was told of it.

    Raises:
        QuoteRefused: it was made by an entry later than the one that was the newest then.
    """
    if find_twin_elsewhere(connection, intention, after=known_until) is not None:
        raise QuoteRefused(
            "The same was made or sent with another key since the user was told of it.",
            to_user="The same was made or sent with another key since you were told of it.",
        )


def _quote_of(quotes: Sequence[Quote], names: Collection[str | None]) -> Quote | None:
    """Return which of a token's quotes is for an act of these names; where none is, what the token is for."""
    return next((quote for quote in quotes if quote.digest in names), next(iter(quotes), None))


def _has_expired(quotes: Sequence[Quote], now: Moment) -> bool:
    """Return whether nobody may agree any more by what a token brings."""
    if any(quote.used_at is not None for quote in quotes):
        # They have agreed to all of it: what is made in its turn may be made hours later.
        return False
    quote, good_seconds = quotes[0], CONSENT_SECONDS if quotes[0].consent else QUOTE_SECONDS
    # The ledger's time stands still while the clock is behind it, and the clock may be set back.
    age = now.clock - quote.made_at_by_clock
    return now.day_time - quote.made_at > good_seconds or not -_STEP_BACK_SECONDS <= age <= good_seconds


def refusal_since(
    connection: Connection, entry: Entry, attempt: Attempt, sent: Intention
) -> QuoteRefused | None:
    """Return that the user has said no to it, by either name, since they were told what they agreed to."""
    names = (entry.digest, attempt.intention.digest, sent.digest)
    quotes = [] if attempt.token is None else find_quotes(connection, attempt.token.id)
    token = _quote_of(quotes, names)
    if token is None:
        return None
    said_no = (
        DECLINED.c.body_digest.in_((entry.body_digest, sent.body_digest)),
        DECLINED.c.caller == (attempt.caller or ""),
        DECLINED.c.declined_at >= token.made_at_by_clock,
    )
    revoked_at = token.revoked_at
    if revoked_at is None:
        revoked_at = connection.execute(select(func.max(DECLINED.c.declined_at)).where(*said_no)).scalar()
    change_quote(connection, token, revoked_at=revoked_at)
    return None if revoked_at is None else _refusal_after_no()


def forget_no(connection: Connection, attempt: Attempt) -> None:
    """Forget that the user said no to what is to be made: they have said yes since."""
    is_it = (
        DECLINED.c.body_digest == attempt.intention.body_digest,
        DECLINED.c.caller == (attempt.caller or ""),
    )
    connection.execute(delete(DECLINED).where(*is_it))


def _refusal_after_no() -> QuoteRefused:
    return QuoteRefused("The user has said no to this since.", code="quote_revoked")
