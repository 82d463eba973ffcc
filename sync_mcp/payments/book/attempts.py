"""Attempts: written down before they are sent, and what the API answered."""

import logging
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Literal

from sqlalchemy import Connection, bindparam, func, select

from sync_mcp.api.book import Claim
from sync_mcp.errors import LimitReached, SyncError
from sync_mcp.payments.attempt import Attempt, Token
from sync_mcp.payments.book.agreements import check_token, check_twins, forget_no, refusal_since
from sync_mcp.payments.book.rules import (
    Moment,
    Rules,
    accept_job,
    find_latest,
    find_maker,
    find_owners,
    find_standing,
    find_twin_elsewhere,
    note_end,
    take_back,
    tokens_left_for,
    tokens_used_by,
    with_second_job,
)
from sync_mcp.payments.book.sums import (
    check_limits,
    check_unasked,
    is_covered,
    refusal_besides,
    sum_unasked_beyond,
)
from sync_mcp.payments.intention import DIGEST_VERSION, Intention
from sync_mcp.payments.limits import utc_midnight
from sync_mcp.payments.rows import (
    ENTRIES,
    IS_UNRESOLVED,
    LEASE_SECONDS,
    NAMES,
    REPEATED_IN_VAIN,
    Entry,
    Quote,
    State,
    add_entry,
    change,
    change_quote,
    delete_entry,
    entries_in,
    find_entry,
    get_entry,
    lease_times,
    put,
)
from sync_mcp.texts import ID_LIMIT, safe

logger = logging.getLogger(__name__)


class Attempts(Rules):
    """Taking an attempt from its beginning to the API's answer."""

    # What is known

    def latest(self, intention: Intention) -> Entry | None:
        """Return the last attempt at an intention."""
        with self.store.reading() as connection:
            return find_latest(connection, intention)

    def standing(self, intention: Intention) -> Entry | None:
        """Return the last attempt at an intention that was not refused: what a next one comes after.

        A refused one cost nothing, and says nothing of the job that may have been paid before it.
        """
        with self.store.reading() as connection:
            return find_standing(connection, intention)

    def maker_of(self, generation_id: str, base_url: str) -> Entry | None:
        """Return the attempt that made a job, or whose answer named it; of several the latest."""
        with self.store.reading() as connection:
            return find_maker(connection, generation_id, base_url)

    def makers_of(self, generation_ids: Sequence[str], base_url: str) -> dict[str, Entry]:
        """Return the attempt that made each of these jobs, where one is known."""
        are_they = (ENTRIES.c.generation_id.in_(generation_ids), ENTRIES.c.base_url == base_url)
        with self.store.reading() as connection:
            found = entries_in(connection.execute(select(ENTRIES).where(*are_they)))
            return {str(entry.generation_id): entry for entry in found}

    def twin_elsewhere(self, intention: Intention) -> Entry | None:
        """Return an attempt at the same thing for another account of this address that may be the same one.

        A key whose account the API does not tell is an account of its own: after it was changed, the ledger
        cannot know whether the new one spends the same money.
        """
        with self.store.reading() as connection:
            return find_twin_elsewhere(connection, intention)

    def newest_id(self) -> int:
        """Return the number of the newest entry, 0 where there is none."""
        with self.store.reading() as connection:
            return connection.execute(select(func.max(ENTRIES.c.id))).scalar() or 0

    def find_known_to_others(self, entry_id: int, generation_ids: Sequence[str]) -> set[str]:
        """Return which of these jobs other attempts are known to have made."""
        with self.store.reading() as connection:
            entry = get_entry(connection, entry_id)
            others = (
                ENTRIES.c.generation_id.in_(generation_ids),
                ENTRIES.c.id != entry_id,
                ENTRIES.c.base_url == entry.base_url,
            )
            return set(connection.execute(select(ENTRIES.c.generation_id).where(*others)).scalars())

    def list_unresolved(self, accounts: Collection[str], base_url: str) -> list[Entry]:
        """Return the attempts whose outcome is unknown, or whose process died on the way, newest first."""
        query = (
            select(ENTRIES)
            .where(
                ENTRIES.c.account.in_(accounts),
                ENTRIES.c.base_url == base_url,
                # What is in doubt has no cost: so it is found without reading what has.
                ENTRIES.c.cost_usd.is_(None),
                IS_UNRESOLVED,
            )
            .order_by(ENTRIES.c.created_at.desc())
        )
        with self.store.reading() as connection:
            return entries_in(connection.execute(query, lease_times(self.store.now())))

    # On the way

    def begin(self, attempt: Attempt) -> tuple[Entry, bool]:
        """Write an attempt down, so that it may be sent; the flag says whether it is this call's to send.

        It is another's where that was faster: then its entry is returned. So is the one before it, where that
        turns out to have been charged, or perhaps, and this one goes by the opposite.

        Raises:
            LimitReached: a budget would be passed; nothing was written.
            QuoteRefused: the quote is not for this, or another key made the same since the user was told;
                nothing was written.
            MustAsk: the user has to agree first; nothing was written.
        """
        with self.store.transaction(is_sandbox=attempt.is_sandbox) as connection:
            latest = find_latest(connection, attempt.intention)
            if latest is not None and latest.attempt >= attempt.number:
                return latest, False
            # Only what was refused has another one before it.
            is_refused = latest is not None and latest.state == "refused"
            before = find_standing(connection, attempt.intention) if is_refused else latest
            if attempt.paid_before is None and before is not None and before.asks_again:
                # It was learned meanwhile that it was charged, or may have been: the user is asked first.
                return before, False
            now = self._moment(connection, attempt.now)
            quote: Quote | None = None
            if attempt.token is not None:
                quote = check_token(connection, attempt, now, latest)
            else:
                check_twins(connection, attempt.intention, attempt.known_until)
            check_limits(connection, attempt, now)
            is_unasked = attempt.token is None and not attempt.is_agreed
            if is_unasked:
                check_unasked(connection, attempt, now)
            else:
                forget_no(connection, attempt)
            entry = add_entry(connection, _as_entry(attempt, now, is_unasked=is_unasked))
            if quote is not None:
                change_quote(connection, quote, used_at=now.day_time, used_by=entry.id)
            return entry, True

    def send(
        self, entry_id: int, attempt: Attempt, sent: Intention
    ) -> Literal["mine", "lost", "joined", "made", "asks"]:
        """Note the assets that an attempt is sent with; return whether it is this owner's to send now.

        `sent` is the intention with them. Where a call that named them has made it, and that may be paid,
        this attempt is withdrawn: it is `joined` where that one is found under both names from now on, else
        it is `made` under the other name. Where the price was unknown to who agreed to it and is known
        now, and would be asked about, it `asks`: it is withdrawn too. What it costs counts from now on, which
        may be another day than its upload's.

        Raises:
            LimitReached: a budget would be passed by now; the attempt was withdrawn.
            QuoteRefused: the user has said no to the same under its other name; the attempt was withdrawn.
        """
        with self.store.transaction(is_sandbox=attempt.is_sandbox) as connection:
            entry = find_entry(connection, entry_id)
            if entry is None or entry.owner != attempt.owner or entry.state != "preparing":
                return "lost"
            if not entry.is_leased(self.store.now()):
                # It counted for nothing meanwhile, and others may have spent what it held.
                return "lost"
            twin = find_standing(connection, sent)
            # One that is known under this name too came before: the user was asked about it.
            is_other_name = _is_other_name(connection, entry.digest, sent.digest)
            is_known_here = twin is not None and (
                is_other_name or entry.digest in (twin.digest, twin.sent_digest)
            )
            if twin is not None and twin.may_be_paid and not is_known_here:
                take_back(connection, entry)
                # Who goes on with it by its files needs to know what they became.
                twin = change(connection, twin, assets={**attempt.assets, **twin.assets})
                if twin.sent_digest is not None:
                    _keep_name(connection, entry.digest, sent.digest)
                    return "made"
                change(connection, twin, sent_digest=entry.digest)
                return "joined"
            now = self._moment(connection, attempt.now)
            refusal: SyncError | None = refusal_besides(connection, attempt, entry, now)
            if refusal is None:
                refusal = refusal_since(connection, entry, attempt, sent)
            if (
                refusal is None
                and entry.estimate_usd is None
                and not is_covered(connection, None, attempt, now)
            ):
                take_back(connection, entry)
                return "asks"
            if refusal is None:
                if is_other_name and twin is not None:
                    # Who names it as at first finds this attempt too.
                    _keep_name(connection, twin.digest, sent.digest)
                change(
                    connection,
                    entry,
                    state="sending",
                    assets=dict(attempt.assets),
                    sent_digest=sent.digest,
                    estimate_usd=attempt.price.usd,
                    counted_usd=attempt.price.usd or Decimal(0),
                    created_at=now.day_time,
                    first_sent_at=attempt.now.seconds,
                    last_sent_at=attempt.now.seconds,
                    leased_until=now.clock + LEASE_SECONDS,
                )
                return "mine"
            take_back(connection, entry)
        raise refusal

    def withdraw(self, entry_id: int, owner: str) -> None:
        """Take back an attempt of which nothing was sent; its quote is good again."""
        self._take_back(entry_id, owner, "preparing")

    def call_off(self, entry_id: int, owner: str) -> None:
        """Take back an attempt on its way of which nothing went out, as its owner knows."""
        self._take_back(entry_id, owner, "sending")

    def _take_back(self, entry_id: int, owner: str, state: State) -> None:
        with self.store.transaction() as connection:
            entry = find_entry(connection, entry_id)
            if entry is not None and entry.state == state and entry.owner == owner:
                take_back(connection, entry)

    def withdraw_abandoned(self, intention: Intention) -> None:
        """Take back the last attempt at an intention where its process died before anything was sent."""
        with self.store.transaction() as connection:
            entry = find_latest(connection, intention)
            if entry is not None and entry.is_abandoned(self.store.now()):
                take_back(connection, entry)

    def take_over(self, entry_id: int, attempt: Attempt) -> Literal["send", "look", "lost"]:
        """Make an attempt whose outcome is unknown, or whose process died, this owner's to go on with.

        It may be sent again where the limits of now, and what may be paid unasked, allow that. Else it may be
        looked for. Its money stays on its day until it goes out. It is lost where another is busy with it.

        Raises:
            QuoteRefused: the quote is not for this, or another key made the same since the user was told;
                nothing was changed.
        """
        with self.store.transaction(is_sandbox=attempt.is_sandbox) as connection:
            entry = get_entry(connection, entry_id)
            now = self._moment(connection, attempt.now)
            if not entry.is_unresolved(now.clock):
                return "lost"
            is_allowed = (
                refusal_besides(connection, attempt, entry, now) is None
                and sum_unasked_beyond(connection, attempt, entry, now) is None
            )
            is_agreed = attempt.is_agreed or attempt.token is not None
            # A quote is for a send: who only looks does not use it up.
            if is_allowed and attempt.token is not None:
                quote = check_token(connection, attempt, now, entry)
                change_quote(connection, quote, used_at=now.day_time, used_by=entry.id)
            elif is_allowed and attempt.is_agreed:
                check_twins(connection, attempt.intention, attempt.known_until)
            change(
                connection,
                entry,
                state="sending",
                owner=attempt.owner,
                leased_until=now.clock + LEASE_SECONDS,
                is_on_its_way=False,
                # A yes is for a send too: what is only looked for was paid unasked, whatever is brought.
                is_unasked=entry.is_unasked and not (is_allowed and is_agreed),
            )
            return "send" if is_allowed else "look"

    def move_to_today(self, entry_id: int, attempt: Attempt) -> LimitReached | None:
        """Have what an attempt costs count on the day of now, on which it is sent.

        Return which limit stands against that, if any: then it is not to be sent, and nothing was changed.
        """
        with self.store.transaction(is_sandbox=attempt.is_sandbox) as connection:
            entry = get_entry(connection, entry_id)
            now = self._moment(connection, attempt.now)
            if utc_midnight(entry.created_at) == utc_midnight(now.day_time):
                return None
            refusal = refusal_besides(connection, attempt, entry, now)
            if refusal is None:
                change(connection, entry, created_at=now.day_time)
            return refusal

    def renew(self, entry_id: int, owner: str) -> bool:
        """Show that the owner of an attempt is alive; return whether it is still this owner's to send."""
        with self.store.transaction() as connection:
            entry = find_entry(connection, entry_id)
            if entry is None or entry.state not in ("preparing", "sending") or entry.owner != owner:
                return False
            clock = self.store.now()
            if entry.is_abandoned(clock):
                # It counted for nothing meanwhile: it has to begin anew.
                return False
            change(connection, entry, leased_until=clock + LEASE_SECONDS)
            return True

    def note_send(self, entry_id: int, owner: str, last_sent_at: float, *, is_on_its_way: bool) -> None:
        """Note when an attempt last went out, and whether an answer is to come or it is looked for."""
        with self.store.transaction() as connection:
            entry = find_entry(connection, entry_id)
            if entry is not None and entry.state == "sending" and entry.owner == owner:
                change(connection, entry, last_sent_at=last_sent_at, is_on_its_way=is_on_its_way)

    # What the API answered

    def claim(self, entry_id: int, generation_id: str) -> Claim:
        """Say whether a job that was found in the API's list can be this attempt's, and note it if so."""
        with self.store.transaction() as connection:
            entry = get_entry(connection, entry_id)
            if entry.generation_id is not None:
                # It was resolved meanwhile, by its answer or by the user.
                return "mine" if entry.generation_id == generation_id else "another's"
            if find_owners(connection, entry, generation_id):
                return "another's"
            twins = entries_in(connection.execute(_TWINS, {"body": entry.body_digest, "besides": entry_id}))
            clock = self.store.now()
            # One under way will be told its job. Of two in doubt, looked for at this moment or not, either
            # may have it, and who comes first does: the other one's is another, or is made when it is looked
            # for in vain, and an answer that names it takes it back.
            if any(twin.is_leased(clock) for twin in twins):
                return "unclear"
            accept_job(connection, entry, generation_id, was_found=True)
            return "mine"

    def accept(self, entry_id: int, generation_id: str) -> Literal["made", "was there"]:
        """Note the job that an attempt made, as the API answered.

        Of an attempt that is known to have made another job, this is a second one: it gets an entry of its
        own, so that both count. Where a repeat under an earlier attempt's key is answered with that one's
        job, nothing new was made: the repeat is withdrawn.
        """
        with self.store.transaction() as connection:
            entry = get_entry(connection, entry_id)
            for other in find_owners(connection, entry, generation_id):
                if other.idempotency_key == entry.idempotency_key and other.attempt < entry.attempt:
                    change(connection, other, error_code=REPEATED_IN_VAIN)
                    # What the user agreed by stays used: of a new key they are asked anew.
                    delete_entry(connection, entry)
                    return "was there"
                if other.was_found and other.state in ("accepted", "ended"):
                    # It took for its own what it found; the answer knows better.
                    _doubt_again(connection, other)
            if entry.generation_id not in (None, generation_id):
                if not find_owners(connection, entry, generation_id):
                    _add_second_job(connection, entry, generation_id)
            elif entry.generation_id is None or entry.state == "sending":
                accept_job(connection, entry, generation_id, was_found=False)
            return "made"

    def doubt(
        self, entry_id: int, owner: str, named_id: str | None, *, given_back: Token | None = None
    ) -> None:
        """Note that the outcome of an attempt is unknown; its money counts as spent.

        What a call used without sending anything by it is given back, and nothing that an earlier send used.
        """
        with self.store.transaction() as connection:
            entry = get_entry(connection, entry_id)
            if entry.state == "sending" and entry.owner == owner:
                for quote in tokens_used_by(connection, entry):
                    if given_back is not None and given_back.id in (quote.id, quote.consent):
                        change_quote(connection, quote, used_at=None, used_by=None)
                change(
                    connection,
                    entry,
                    state="unknown",
                    leased_until=0.0,
                    is_on_its_way=False,
                    named_id=named_id or entry.named_id,
                )

    def refuse(self, entry_id: int, owner: str, error_code: str, *, gives_quote_back: bool) -> None:
        """Note that the API refused an attempt, or never saw it: it cost nothing.

        A quote is given back where the refusal says nothing of the price: it holds for the next attempt, as
        one does then that was not used.
        """
        with self.store.transaction() as connection:
            entry = get_entry(connection, entry_id)
            if entry.state == "sending" and entry.owner == owner:
                why = safe(error_code, 80)
                note_end(connection, entry, "refused", "no", Decimal(0), self.store.now(), error_code=why)
                if gives_quote_back:
                    for quote in (*tokens_used_by(connection, entry), *tokens_left_for(connection, entry)):
                        change_quote(connection, quote, used_at=None, used_by=None, attempt=entry.attempt + 1)


def _as_entry(attempt: Attempt, now: Moment, *, is_unasked: bool) -> Entry:
    intention = attempt.intention
    return Entry(
        account=intention.account,
        base_url=intention.base_url,
        tool=attempt.tool,
        digest=intention.digest,
        body_digest=intention.body_digest,
        content_digest=intention.content_digest,
        digest_version=DIGEST_VERSION,
        take=intention.take,
        attempt=attempt.number,
        idempotency_key=attempt.idempotency_key,
        kind=intention.act.kind,
        model=safe(intention.act.model, 80),
        summary=intention.summary,
        about=intention.about,
        extras=intention.act.extras,
        state="preparing" if attempt.has_files else "sending",
        owner=attempt.owner,
        leased_until=now.clock + LEASE_SECONDS,
        assets={},
        estimate_usd=attempt.price.usd,
        counted_usd=attempt.price.usd or Decimal(0),
        created_at=now.day_time,
        first_sent_at=attempt.now.seconds,
        last_sent_at=attempt.now.seconds,
        is_sandbox=attempt.is_sandbox,
        is_unasked=is_unasked,
        campaign=attempt.campaign,
        caller=attempt.caller,
    )


def _doubt_again(connection: Connection, entry: Entry) -> None:
    change(
        connection,
        entry,
        state="unknown",
        generation_id=None,
        was_found=False,
        settled_at=None,
        status=None,
        cost_usd=None,
        charged="unknown",
        counted_usd=entry.estimate_usd or Decimal(0),
    )


def _add_second_job(connection: Connection, entry: Entry, generation_id: str) -> None:
    """Write down that an attempt made another job besides the one that it is known for."""
    attempts = select(func.max(ENTRIES.c.attempt)).where(ENTRIES.c.digest == entry.digest)
    last = connection.execute(attempts).scalar() or entry.attempt
    second = add_entry(connection, with_second_job(entry, last + 1, generation_id))
    logger.error(
        "one attempt made two jobs, and both count: %s (entry %s) and %s (entry %s)",
        safe(entry.generation_id or "", ID_LIMIT),
        entry.id,
        safe(generation_id, ID_LIMIT),
        second.id,
    )


def _is_other_name(connection: Connection, digest: str, sent_digest: str) -> bool:
    is_it = (NAMES.c.digest == digest, NAMES.c.sent_digest == sent_digest)
    return connection.execute(select(NAMES.c.digest).where(*is_it)).first() is not None


def _keep_name(connection: Connection, digest: str, sent_digest: str) -> None:
    put(connection, NAMES, {"digest": digest, "sent_digest": sent_digest})


_TWINS = select(ENTRIES).where(
    ENTRIES.c.body_digest == bindparam("body"),
    ENTRIES.c.id != bindparam("besides"),
    ENTRIES.c.state == "sending",
    ENTRIES.c.is_on_its_way,
)
