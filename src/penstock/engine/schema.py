"""The ledger's tables, by version. A change is a new entry in `STEPS`, never an edit of an old one.

`transfers` is what was proved, `receipts` the parts of what is under way, `intents` what was about
to be asked when an answer might be lost, `claims` which live process moves what. `actions` is the
same for control calls. No token and no presigned URL is ever a value here.
"""

from __future__ import annotations

# "pnst": tells a ledger from any other SQLite file.
APPLICATION_ID = 0x706E7374

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE transfers (
        id INTEGER PRIMARY KEY,
        direction TEXT NOT NULL CHECK (direction IN ('up', 'down')),
        endpoint TEXT NOT NULL,
        container TEXT NOT NULL,
        remote_path TEXT NOT NULL,
        local_path TEXT NOT NULL,
        state TEXT NOT NULL,
        source TEXT,            -- fingerprint of the source, JSON
        part_size INTEGER,
        upload_id TEXT,
        parallel INTEGER NOT NULL DEFAULT 1,
        partial TEXT,           -- where an unfinished download lies
        validator TEXT,         -- the ETag its bytes were fetched under
        remote_id TEXT,
        size INTEGER,
        mtime_ns INTEGER,       -- of the local file when it was proved
        digests TEXT NOT NULL DEFAULT '{}',
        verified_by TEXT,
        placed TEXT,            -- the name it really has, where a conflict was met by renaming
        parts INTEGER NOT NULL DEFAULT 0,
        run TEXT,
        ended_at REAL,
        UNIQUE (direction, endpoint, container, remote_path, local_path)
    );
    CREATE INDEX transfers_partial ON transfers (partial) WHERE partial IS NOT NULL;
    CREATE INDEX transfers_upload ON transfers (upload_id) WHERE upload_id IS NOT NULL;
    CREATE TABLE receipts (
        transfer INTEGER NOT NULL REFERENCES transfers ON DELETE CASCADE,
        number INTEGER NOT NULL,
        start INTEGER NOT NULL,
        length INTEGER NOT NULL,
        md5 TEXT NOT NULL,
        etag TEXT,
        proves INTEGER NOT NULL,
        report TEXT NOT NULL,
        PRIMARY KEY (transfer, number)
    ) WITHOUT ROWID;
    CREATE TABLE intents (
        id INTEGER PRIMARY KEY,
        transfer INTEGER REFERENCES transfers ON DELETE CASCADE,
        kind TEXT NOT NULL,
        place TEXT NOT NULL,
        name TEXT NOT NULL,
        size INTEGER,
        part_size INTEGER,      -- as it was about to be asked for
        made_at REAL NOT NULL   -- by the platform's clock
    );
    CREATE INDEX intents_transfer ON intents (transfer);
    CREATE TABLE claims (
        transfer INTEGER PRIMARY KEY REFERENCES transfers ON DELETE CASCADE,
        holder TEXT NOT NULL,
        claimed_at REAL NOT NULL
    );
    CREATE TABLE actions (
        id INTEGER PRIMARY KEY,
        endpoint TEXT NOT NULL,
        thing TEXT NOT NULL,
        action TEXT NOT NULL,
        state TEXT NOT NULL,
        before TEXT,
        after TEXT,
        run TEXT,
        made_at REAL NOT NULL,
        ended_at REAL
    );
    CREATE INDEX actions_thing ON actions (endpoint, thing);
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        began_at REAL NOT NULL,
        ended_at REAL,
        sources TEXT NOT NULL,
        destination TEXT NOT NULL,
        summary TEXT
    );
    CREATE TABLE places (
        endpoint TEXT NOT NULL,
        path TEXT NOT NULL,
        id TEXT NOT NULL,
        PRIMARY KEY (endpoint, path)
    ) WITHOUT ROWID;
    CREATE TABLE facts (
        endpoint TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (endpoint, name)
    ) WITHOUT ROWID;
    """,
    # SHA-256 of the metadata that was last stored with the file.
    "ALTER TABLE transfers ADD COLUMN metadata TEXT",
    # What a range that came down is known by.
    "ALTER TABLE receipts ADD COLUMN blake3 TEXT",
    # `mark` (JSON) is what was seen before the action was sent, `holder` which live process asked,
    # `open` whether its run did not end by itself. SQLite keeps a comment after a column's
    # definition as part of the table, so there is none inside.
    """
    ALTER TABLE actions ADD COLUMN mark TEXT;
    ALTER TABLE actions ADD COLUMN reason TEXT;
    ALTER TABLE actions ADD COLUMN holder TEXT;
    ALTER TABLE actions ADD COLUMN open INTEGER NOT NULL DEFAULT 1
    """,
    # What a file that came down is known by from its start to the end of a range.
    "ALTER TABLE receipts ADD COLUMN front TEXT",
)
