-- What processes of sessions do beside starting programs, as 0001 has it: every
-- field that a filter can name is a column. What a kind of activity does not
-- have is NULL.

CREATE TABLE activities (
    session_id        TEXT    NOT NULL REFERENCES session_hosts (session_id),
    seq               INTEGER NOT NULL,
    message           BLOB    NOT NULL,
    time              INTEGER NOT NULL,
    pid               INTEGER NOT NULL,
    kind              INTEGER NOT NULL,
    path              TEXT,
    target            TEXT,
    operation         INTEGER,
    protocol          INTEGER,
    direction         INTEGER,
    byte_count        ANY, -- above 2^63 - 1: text of twenty digits
    errno             INTEGER,
    role              INTEGER,
    forwarded         INTEGER,
    local_address     TEXT,
    local_port        INTEGER,
    remote_address    TEXT,
    remote_port       INTEGER,
    relation          INTEGER,
    linked_session_id TEXT,
    handoff_to        INTEGER,
    PRIMARY KEY (session_id, seq)
) STRICT;

-- A connection's end may arrive before its beginning.
CREATE TABLE connect_ends (
    session_id     TEXT    NOT NULL REFERENCES session_hosts (session_id),
    seq            INTEGER NOT NULL,
    sent_bytes     INTEGER,
    received_bytes INTEGER,
    duration_ns    INTEGER NOT NULL,
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;

ALTER TABLE sessions ADD COLUMN parent_session_id TEXT NOT NULL DEFAULT '';

CREATE INDEX sessions_by_parent ON sessions (parent_session_id, start_time);
