"""The tables of the ledger's file, as each version of it made them: what is written here never changes.

A file goes through the statements of all versions that it has not been through yet, a new one through all. A
version that has been published stands as it is; what comes later is a version of its own.
"""

VERSION_1 = (
    """CREATE TABLE entries (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        account VARCHAR NOT NULL,
        base_url VARCHAR NOT NULL,
        tool VARCHAR NOT NULL,
        digest VARCHAR NOT NULL,
        body_digest VARCHAR NOT NULL,
        sent_digest VARCHAR,
        digest_version INTEGER NOT NULL,
        take INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        idempotency_key VARCHAR NOT NULL,
        model VARCHAR NOT NULL,
        summary VARCHAR NOT NULL,
        extras JSON NOT NULL,
        state VARCHAR NOT NULL,
        owner VARCHAR NOT NULL,
        leased_until DOUBLE NOT NULL,
        estimate_usd BIGINT,
        counted_usd BIGINT NOT NULL,
        cost_usd BIGINT,
        charged VARCHAR NOT NULL,
        generation_id VARCHAR,
        named_id VARCHAR,
        was_found BOOLEAN NOT NULL,
        assets JSON NOT NULL,
        status VARCHAR,
        error_code VARCHAR,
        created_at DOUBLE NOT NULL,
        first_sent_at DOUBLE NOT NULL,
        settled_at DOUBLE,
        UNIQUE (digest, attempt)
    )""",
    "CREATE INDEX entries_by_account ON entries (account, base_url, created_at)",
    "CREATE INDEX entries_by_generation ON entries (generation_id)",
    "CREATE INDEX ix_entries_body_digest ON entries (body_digest)",
    "CREATE INDEX ix_entries_sent_digest ON entries (sent_digest)",
    "CREATE INDEX ix_entries_state ON entries (state)",
    """CREATE TABLE quotes (
        id VARCHAR NOT NULL PRIMARY KEY,
        digest VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        price_usd BIGINT,
        made_at DOUBLE NOT NULL,
        made_at_by_clock DOUBLE NOT NULL,
        used_at DOUBLE
    )""",
    """CREATE TABLE accounts (
        fingerprint VARCHAR NOT NULL,
        base_url VARCHAR NOT NULL,
        account VARCHAR NOT NULL,
        PRIMARY KEY (fingerprint, base_url)
    )""",
)

VERSION_2 = (
    # Whose consent and whose money it is.
    "ALTER TABLE entries ADD COLUMN is_sandbox BOOLEAN NOT NULL DEFAULT 0",
    "ALTER TABLE entries ADD COLUMN is_unasked BOOLEAN NOT NULL DEFAULT 0",
    "ALTER TABLE entries ADD COLUMN content_digest VARCHAR",
    "CREATE INDEX ix_entries_content_digest ON entries (content_digest)",
    "ALTER TABLE quotes ADD COLUMN kind VARCHAR NOT NULL DEFAULT 'quote'",
    "ALTER TABLE quotes ADD COLUMN body_digest VARCHAR",
    "ALTER TABLE quotes ADD COLUMN revoked_at FLOAT",
    "CREATE INDEX ix_quotes_body_digest ON quotes (body_digest)",
    "ALTER TABLE accounts ADD COLUMN is_sandbox BOOLEAN NOT NULL DEFAULT 0",
    # The API itself is not on this machine: what was made here was a sandbox's.
    """UPDATE entries SET is_sandbox = 1 WHERE base_url LIKE 'http://127.%'
        OR base_url LIKE 'http://localhost%' OR base_url LIKE 'http://[::1]%'""",
    # By these a ledger that has lost entries is told from a whole one. Kept by the database itself, they miss
    # no change of an entry, whoever makes it.
    "ALTER TABLE ledger ADD COLUMN id VARCHAR NOT NULL DEFAULT ''",
    "ALTER TABLE ledger ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE ledger ADD COLUMN counted_usd BIGINT NOT NULL DEFAULT 0",
    """UPDATE ledger SET
        id = lower(hex(randomblob(16))),
        revision = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'entries'), 0),
        counted_usd = (SELECT coalesce(sum(counted_usd), 0) FROM entries)""",
    """CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
        UPDATE ledger SET revision = revision + 1, counted_usd = counted_usd + NEW.counted_usd;
    END""",
    """CREATE TRIGGER entry_changed AFTER UPDATE ON entries BEGIN
        UPDATE ledger SET
            revision = revision + 1, counted_usd = counted_usd + NEW.counted_usd - OLD.counted_usd;
    END""",
    """CREATE TRIGGER entry_deleted AFTER DELETE ON entries BEGIN
        UPDATE ledger SET revision = revision + 1, counted_usd = counted_usd - OLD.counted_usd;
    END""",
)

VERSION_3 = (
    # Until when the API's list may lag, and which of two that may have one job is told it by an answer.
    "ALTER TABLE entries ADD COLUMN last_sent_at DOUBLE NOT NULL DEFAULT 0",
    "ALTER TABLE entries ADD COLUMN is_on_its_way BOOLEAN NOT NULL DEFAULT 1",
    "UPDATE entries SET last_sent_at = first_sent_at",
)

VERSION_4 = (
    # Who asked, where clients over HTTP have tokens with names.
    "ALTER TABLE entries ADD COLUMN caller VARCHAR",
    "ALTER TABLE quotes ADD COLUMN caller VARCHAR",
)

VERSION_5 = (
    # What a job is called in a list. An older process that has the file open leaves them empty.
    "ALTER TABLE entries ADD COLUMN about VARCHAR",
    "ALTER TABLE entries ADD COLUMN saved_as VARCHAR",
)

VERSION_6 = (
    # What else of a call the user's word is for, and to what they have said no since.
    "ALTER TABLE quotes ADD COLUMN webhook_host VARCHAR",
    """CREATE TABLE declined (
        body_digest VARCHAR NOT NULL,
        caller VARCHAR NOT NULL,
        declined_at DOUBLE NOT NULL,
        PRIMARY KEY (body_digest, caller)
    )""",
    # What is named by files is what was sent with their assets, also where another attempt had sent that.
    """CREATE TABLE names (
        digest VARCHAR NOT NULL,
        sent_digest VARCHAR NOT NULL,
        PRIMARY KEY (digest, sent_digest)
    )""",
)

_ON_DAY = """INSERT INTO days (is_sandbox, day, counted_usd) VALUES ({entry}.is_sandbox,
    CAST({entry}.created_at / 86400 AS INTEGER), {sign}{entry}.counted_usd)
    ON CONFLICT (is_sandbox, day) DO UPDATE SET counted_usd = counted_usd + excluded.counted_usd"""
_PUT_ON_DAY = _ON_DAY.format(entry="NEW", sign="")
_TAKEN_FROM_DAY = _ON_DAY.format(entry="OLD", sign="-")

VERSION_7 = (
    # What a budget is compared with, kept up by the database itself: a create need not read every entry.
    """CREATE TABLE days (
        is_sandbox BOOLEAN NOT NULL,
        day INTEGER NOT NULL,
        counted_usd BIGINT NOT NULL,
        PRIMARY KEY (is_sandbox, day)
    ) WITHOUT ROWID""",
    """INSERT INTO days SELECT is_sandbox, CAST(created_at / 86400 AS INTEGER), sum(counted_usd)
        FROM entries GROUP BY 1, 2""",
    f"CREATE TRIGGER day_added AFTER INSERT ON entries BEGIN {_PUT_ON_DAY}; END",
    f"""CREATE TRIGGER day_changed AFTER UPDATE OF is_sandbox, created_at, counted_usd ON entries BEGIN
        {_TAKEN_FROM_DAY}; {_PUT_ON_DAY};
    END""",
    f"CREATE TRIGGER day_deleted AFTER DELETE ON entries BEGIN {_TAKEN_FROM_DAY}; END",
    "CREATE INDEX ix_entries_created_at ON entries (created_at)",
)

VERSION_8 = (
    # Of what kind the paid act is. All that stood here before made a video.
    "ALTER TABLE entries ADD COLUMN kind VARCHAR NOT NULL DEFAULT 'generation'",
    # Which of several acts the user agreed to at once.
    "ALTER TABLE quotes ADD COLUMN consent VARCHAR",
    "CREATE INDEX ix_quotes_consent ON quotes (consent)",
)

VERSION_9 = (
    # What the user had been told when they agreed: nothing is known of the quotes before.
    "ALTER TABLE quotes ADD COLUMN paid_before INTEGER",
    "ALTER TABLE quotes ADD COLUMN known_until INTEGER NOT NULL DEFAULT 0",
)

VERSION_10 = (
    # Which attempt it was used for: that one's end alone can give it back.
    "ALTER TABLE quotes ADD COLUMN used_by INTEGER",
    "CREATE INDEX ix_quotes_used_by ON quotes (used_by)",
)

VERSION_11 = (
    # What webhooks have told: whoever waits for a job, in whichever process, reads it here.
    """CREATE TABLE deliveries (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        base_url VARCHAR NOT NULL,
        job_id VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        came_at DOUBLE NOT NULL,
        UNIQUE (base_url, job_id, status)
    )""",
)

VERSION_12 = (
    # For whom it is made, where many share a ledger: empty as long as they are one.
    "ALTER TABLE entries ADD COLUMN principal VARCHAR NOT NULL DEFAULT ''",
    # What every create asks, found without reading what has long been settled, or was agreed to.
    """CREATE INDEX entries_unasked
        ON entries (is_sandbox, created_at, state, leased_until, counted_usd, is_unasked)
        WHERE is_unasked = 1""",
    "CREATE INDEX entries_without_cost ON entries (account, base_url, created_at) WHERE cost_usd IS NULL",
    "CREATE INDEX ix_entries_named_id ON entries (named_id) WHERE named_id IS NOT NULL",
)

VERSION_13 = (
    # What the user said by their yes beside that it may be paid.
    "ALTER TABLE quotes ADD COLUMN avowal VARCHAR",
)

VERSION_14 = (
    # Many videos by one plan. What was paid stands in the entries alone: these say what is to be done next.
    """CREATE TABLE campaigns (
        id VARCHAR NOT NULL PRIMARY KEY,
        principal VARCHAR NOT NULL,
        account VARCHAR NOT NULL,
        base_url VARCHAR NOT NULL,
        is_sandbox BOOLEAN NOT NULL,
        name VARCHAR NOT NULL,
        digest VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        reason VARCHAR,
        resumes_at DOUBLE,
        total_usd BIGINT NOT NULL,
        budget_usd BIGINT,
        max_usd_per_row BIGINT,
        source VARCHAR NOT NULL,
        folder VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL,
        approved_at DOUBLE
    )""",
    """CREATE TABLE campaign_rows (
        campaign VARCHAR NOT NULL,
        number INTEGER NOT NULL,
        line INTEGER,
        about VARCHAR NOT NULL,
        language VARCHAR NOT NULL,
        request JSON NOT NULL,
        digest VARCHAR NOT NULL,
        take INTEGER NOT NULL,
        price_usd BIGINT,
        state VARCHAR NOT NULL,
        lane VARCHAR,
        attempts INTEGER NOT NULL,
        begun INTEGER NOT NULL,
        looks INTEGER NOT NULL,
        is_begun BOOLEAN NOT NULL,
        not_before DOUBLE NOT NULL,
        generation_id VARCHAR,
        dearer_usd BIGINT,
        output VARCHAR NOT NULL,
        saved_as VARCHAR,
        error VARCHAR,
        changed_at DOUBLE NOT NULL,
        PRIMARY KEY (campaign, number)
    )""",
    # A turn finds its row by these without reading those that wait; see the plans in tests/campaigns.
    "CREATE INDEX campaign_rows_by_state ON campaign_rows (campaign, state, begun, number, not_before)",
    "CREATE INDEX campaign_rows_running ON campaign_rows (campaign, digest) WHERE state = 'running'",
    # Who has an account's rows made now, and until when.
    """CREATE TABLE runners (
        account VARCHAR NOT NULL,
        base_url VARCHAR NOT NULL,
        holder VARCHAR NOT NULL,
        place VARCHAR NOT NULL,
        leased_until DOUBLE NOT NULL,
        PRIMARY KEY (account, base_url)
    )""",
    # What a campaign has cost is the sum of what was made for it, whatever has become of its rows.
    "ALTER TABLE entries ADD COLUMN campaign VARCHAR",
    """CREATE INDEX entries_of_campaigns
        ON entries (campaign, cost_usd, counted_usd, estimate_usd, charged) WHERE campaign IS NOT NULL""",
)

VERSIONS = (
    VERSION_1,
    VERSION_2,
    VERSION_3,
    VERSION_4,
    VERSION_5,
    VERSION_6,
    VERSION_7,
    VERSION_8,
    VERSION_9,
    VERSION_10,
    VERSION_11,
    VERSION_12,
    VERSION_13,
    VERSION_14,
)

STATE = (
    "SELECT id, revision, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'entries'), 0), counted_usd "
    "FROM ledger"
)
"""How far a ledger has come: its id, its revision, its last entry, and what all of them count."""

RENAME = "UPDATE ledger SET id = lower(hex(randomblob(16))), revision = revision + 1"
"""From now on it is another ledger than what it was copied from."""
