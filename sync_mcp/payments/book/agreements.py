"""What the user agreed to, and what they said no to: quotes and questions, each good once."""

import secrets
from decimal import Decimal

from sqlalchemy import Connection, delete, func, select

from sync_mcp.errors import QuoteRefused
from sync_mcp.payments.book.book import DAY_SECONDS, Book, Moment, names_of
from sync_mcp.payments.book.sums import is_covered
from sync_mcp.payments.intention import Intention
from sync_mcp.payments.rows import (
    DECLINED,
    QUOTE,
    QUOTES,
    Entry,
    Quote,
    TokenKind,
    add_quote,
    change_quote,
    find_quote,
    put,
    quotes_in,
)
from sync_mcp.payments.wish import Instant, Wish
from sync_mcp.texts import plain_id

QUOTE_SECONDS = 600.0
_STEP_BACK_SECONDS = 60.0
"""How far the clock may be set back under a quote."""
_ASK_AGAIN = {"question": "Make the same call again: the host puts the question to the user."}


class Agreements(Book):
    """Handing out what a user can agree by, and taking it back."""

    def quote(
        self,
        intention: Intention,
        attempt: int,
        price_usd: Decimal | None,
        now: Instant,
        kind: TokenKind = "quote",
        *,
        caller: str | None = None,
        webhook_host: str | None = None,
    ) -> str:
        """Hand out what a user can agree by: good once, for this attempt at this intention and this caller.

        It covers that the finished job's URL goes to `webhook_host`, and to nobody else that must be asked
        about. A quote is good for ten minutes; a question has no time of ours.
        """
        token_id = f"{'q' if kind == 'quote' else 's'}_{secrets.token_urlsafe(9)}"
        with self._transaction() as connection:
            moment = self._moment(connection, now)
            quote = Quote(
                id=token_id,
                kind=kind,
                digest=intention.digest,
                body_digest=intention.body_digest,
                attempt=attempt,
                price_usd=price_usd,
                made_at=moment.day_time,
                made_at_by_clock=moment.clock,
                caller=caller,
                webhook_host=webhook_host,
            )
            add_quote(connection, quote)
        return token_id

    def question_age(self, token_id: str, caller: str | None = None) -> float | None:
        """Return how many seconds ago a question was put to a caller, or None where there was none."""
        with self._reading() as connection:
            question = find_quote(connection, token_id)
            if question is None or question.kind != "question" or question.caller != caller:
                return None
            return self.store.now() - question.made_at_by_clock

    def revoke(self, *intentions: Intention, caller: str | None = None) -> None:
        """Take back a caller's quotes and questions of what is made, of any take: their user said no to it.

        What is named by its files and what is named by their assets is one thing: `intentions` are its names
        as far as they are known.
        """
        now = self.store.now()
        bodies = {intention.body_digest for intention in intentions}
        with self._transaction() as connection:
            for body_digest in bodies:
                key = {"body_digest": body_digest, "caller": caller or ""}
                put(connection, DECLINED, key, declined_at=now)
            open_quotes = select(*QUOTE).where(
                QUOTES.c.body_digest.in_(bodies) | QUOTES.c.digest.in_(names_of(connection, intentions)),
                QUOTES.c.caller.is_not_distinct_from(caller),
                QUOTES.c.used_at.is_(None),
                QUOTES.c.revoked_at.is_(None),
            )
            for quote in quotes_in(connection.execute(open_quotes)):
                change_quote(connection, quote, revoked_at=now)

    def was_declined(self, intention: Intention, caller: str | None) -> bool:
        """Return whether a caller's user said no to it within a day, and has not agreed to it since."""
        with self._reading() as connection:
            declined = (
                DECLINED.c.body_digest == intention.body_digest,
                DECLINED.c.caller == (caller or ""),
            )
            declined_at = connection.execute(select(DECLINED.c.declined_at).where(*declined)).scalar()
            return declined_at is not None and 0 <= self.store.now() - declined_at < DAY_SECONDS


def use_token(connection: Connection, wish: Wish, now: Moment, latest: Entry | None) -> None:
    """Use up what the user agreed by.

    Raises:
        QuoteRefused: it is not for this, or no longer good.
    """
    token = wish.token
    assert token is not None
    quote = find_quote(connection, token.id)
    # What another was asked about is not this one's to agree to, and not this one's to know of.
    if quote is None or quote.kind != token.kind or quote.caller != wish.caller:
        raise QuoteRefused(f"There is no such {token.kind}.", next_step=_ASK_AGAIN.get(token.kind))
    if quote.revoked_at is not None:
        raise _revoked()
    if quote.used_at is not None:
        told = "The quote has been used: it is good for one job."
        if latest is not None and latest.attempt == quote.attempt and latest.state == "refused":
            # The call that it was used by may have ended before it came to know.
            told += (
                f" That one was refused: {plain_id(latest.error_code or '') or 'the API did not say why'}."
            )
        raise QuoteRefused(told)
    # What is named by its file and what is named by its asset is one thing, once an attempt had both names.
    names = {wish.intention.digest, *((latest.digest, latest.sent_digest) if latest else ())}
    if quote.digest not in names or quote.attempt != wish.attempt:
        raise QuoteRefused(f"The {token.kind} is for another call than this one.")
    if token.kind == "quote" and _has_expired(quote, now):
        raise QuoteRefused("The quote has expired: it is good for ten minutes.")
    if wish.webhook_host is not None and quote.webhook_host != wish.webhook_host:
        told = "another host for its webhook" if quote.webhook_host else "no webhook"
        raise QuoteRefused(
            f"What the user agreed to names {told}.",
            code="webhook_changed",
            to_user=f"What you agreed to names {told}.",
        )
    if not is_covered(connection, quote.price_usd, wish, now):
        raise QuoteRefused(
            "The price is no longer what the user was told.",
            code="price_changed",
            to_user="The price is no longer what you were told.",
        )
    change_quote(connection, quote, used_at=now.day_time)


def _has_expired(quote: Quote, now: Moment) -> bool:
    # The ledger's time stands still while the clock is behind it, and the clock may be set back.
    age = now.clock - quote.made_at_by_clock
    return now.day_time - quote.made_at > QUOTE_SECONDS or not -_STEP_BACK_SECONDS <= age <= QUOTE_SECONDS


def refusal_since(connection: Connection, entry: Entry, wish: Wish, sent: Intention) -> QuoteRefused | None:
    """Return that the user has said no to it, by either name, since they were told what they agreed to."""
    token = None if wish.token is None else find_quote(connection, wish.token.id)
    if token is None:
        return None
    said_no = (
        DECLINED.c.body_digest.in_((entry.body_digest, sent.body_digest)),
        DECLINED.c.caller == (wish.caller or ""),
        DECLINED.c.declined_at >= token.made_at_by_clock,
    )
    revoked_at = connection.execute(select(func.max(DECLINED.c.declined_at)).where(*said_no)).scalar()
    change_quote(connection, token, revoked_at=revoked_at)
    return None if revoked_at is None else _revoked()


def forget_no(connection: Connection, wish: Wish) -> None:
    """Forget that the user said no to a wish: they have said yes since."""
    is_it = (
        DECLINED.c.body_digest == wish.intention.body_digest,
        DECLINED.c.caller == (wish.caller or ""),
    )
    connection.execute(delete(DECLINED).where(*is_it))


def _revoked() -> QuoteRefused:
    return QuoteRefused("The user has said no to this since.", code="quote_revoked")
