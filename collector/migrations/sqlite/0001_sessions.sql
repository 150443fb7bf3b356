-- Every field that a filter can name is a column of that name; `message` holds
-- the encoded auditty.v1 message that is given back. Times are nanoseconds
-- since 1970 UTC, enumerations the numbers of the schema.

-- Which host a session belongs to, from the first report that named it.
CREATE TABLE session_hosts (
    session_id TEXT NOT NULL PRIMARY KEY,
    host_id    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    session_id         TEXT    NOT NULL PRIMARY KEY REFERENCES session_hosts (session_id),
    revision           INTEGER NOT NULL,
    message            BLOB    NOT NULL,
    "user"             TEXT    NOT NULL,
    uid                INTEGER,
    hostname           TEXT    NOT NULL,
    host_id            TEXT    NOT NULL,
    client_address     TEXT    NOT NULL,
    method             INTEGER NOT NULL,
    key_fingerprint    TEXT    NOT NULL,
    certificate_id     TEXT    NOT NULL,
    certificate_serial ANY, -- above 2^63 - 1: text of twenty digits
    ca_fingerprint     TEXT    NOT NULL,
    kind               INTEGER NOT NULL,
    state              INTEGER NOT NULL,
    verdict            INTEGER NOT NULL,
    end_reason         INTEGER NOT NULL,
    terminal           TEXT    NOT NULL,
    command            TEXT    NOT NULL,
    start_time         INTEGER NOT NULL,
    end_time           INTEGER,
    exit_code          INTEGER,
    adopted            INTEGER NOT NULL,
    grant_status       INTEGER NOT NULL,
    request_id         TEXT    NOT NULL,
    requester          TEXT    NOT NULL,
    access_flow        TEXT    NOT NULL,
    ticket             TEXT    NOT NULL
) STRICT;

CREATE INDEX sessions_by_start           ON sessions (start_time, session_id);
CREATE INDEX sessions_by_end             ON sessions (end_time);
CREATE INDEX sessions_by_user            ON sessions ("user", start_time);
CREATE INDEX sessions_by_uid             ON sessions (uid, start_time);
CREATE INDEX sessions_by_hostname        ON sessions (hostname, start_time);
CREATE INDEX sessions_by_host_id         ON sessions (host_id, start_time);
CREATE INDEX sessions_by_client_address  ON sessions (client_address, start_time);
CREATE INDEX sessions_by_key_fingerprint ON sessions (key_fingerprint, start_time);
CREATE INDEX sessions_by_certificate     ON sessions (certificate_id, start_time);
CREATE INDEX sessions_by_serial          ON sessions (certificate_serial);
CREATE INDEX sessions_by_request_id      ON sessions (request_id, start_time);
CREATE INDEX sessions_by_requester       ON sessions (requester, start_time);
CREATE INDEX sessions_by_ticket          ON sessions (ticket, start_time);
CREATE INDEX sessions_by_state           ON sessions (state, start_time);
CREATE INDEX sessions_by_grant_status    ON sessions (grant_status, start_time);
CREATE INDEX sessions_by_verdict         ON sessions (verdict, start_time);

CREATE TABLE session_approvers (
    approver   TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (session_id),
    PRIMARY KEY (approver, session_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX session_approvers_by_session ON session_approvers (session_id);

-- A command may arrive before its session, and its end before either.
CREATE TABLE commands (
    session_id   TEXT    NOT NULL REFERENCES session_hosts (session_id),
    seq          INTEGER NOT NULL,
    message      BLOB    NOT NULL,
    pid          INTEGER NOT NULL,
    parent_pid   INTEGER NOT NULL,
    exe          TEXT    NOT NULL,
    filename     TEXT    NOT NULL,
    cwd          TEXT    NOT NULL,
    command_line TEXT    NOT NULL,
    uid          INTEGER NOT NULL,
    euid         INTEGER NOT NULL,
    login_uid    INTEGER,
    start_time   INTEGER NOT NULL,
    PRIMARY KEY (session_id, seq)
) STRICT;

CREATE TABLE command_ends (
    session_id  TEXT    NOT NULL REFERENCES session_hosts (session_id),
    seq         INTEGER NOT NULL,
    exit_code   INTEGER,
    signal      INTEGER,
    duration_ns INTEGER NOT NULL,
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
