-- The tables of SQLite's migrations 1 to 3 under the same names, so that one
-- text of SQL serves both. Texts compare by bytes. Where a text can be longer
-- than a B-tree takes (2,704 bytes), its index is a hash.

CREATE TABLE session_hosts (
    session_id TEXT COLLATE "C" PRIMARY KEY,
    host_id    TEXT COLLATE "C" NOT NULL,
    tenant     TEXT COLLATE "C" NOT NULL
);

CREATE TABLE sessions (
    session_id         TEXT COLLATE "C" PRIMARY KEY REFERENCES session_hosts (session_id),
    tenant             TEXT COLLATE "C" NOT NULL,
    revision           BIGINT  NOT NULL,
    message            BYTEA   NOT NULL,
    "user"             TEXT COLLATE "C" NOT NULL,
    uid                BIGINT,
    hostname           TEXT COLLATE "C" NOT NULL,
    host_id            TEXT COLLATE "C" NOT NULL,
    client_address     TEXT COLLATE "C" NOT NULL,
    method             BIGINT  NOT NULL,
    key_fingerprint    TEXT COLLATE "C" NOT NULL,
    certificate_id     TEXT COLLATE "C" NOT NULL,
    certificate_serial NUMERIC,
    ca_fingerprint     TEXT COLLATE "C" NOT NULL,
    kind               BIGINT  NOT NULL,
    state              BIGINT  NOT NULL,
    verdict            BIGINT  NOT NULL,
    end_reason         BIGINT  NOT NULL,
    terminal           TEXT COLLATE "C" NOT NULL,
    command            TEXT COLLATE "C" NOT NULL,
    start_time         BIGINT  NOT NULL,
    end_time           BIGINT,
    exit_code          BIGINT,
    adopted            BIGINT  NOT NULL,
    parent_session_id  TEXT COLLATE "C" NOT NULL,
    grant_status       BIGINT  NOT NULL,
    request_id         TEXT COLLATE "C" NOT NULL,
    requester          TEXT COLLATE "C" NOT NULL,
    access_flow        TEXT COLLATE "C" NOT NULL,
    ticket             TEXT COLLATE "C" NOT NULL
);

CREATE INDEX sessions_by_start           ON sessions (start_time, session_id);
CREATE INDEX sessions_by_end             ON sessions (end_time);
CREATE INDEX sessions_by_tenant          ON sessions (tenant, start_time);
CREATE INDEX sessions_by_user            ON sessions ("user", start_time);
CREATE INDEX sessions_by_uid             ON sessions (uid, start_time);
CREATE INDEX sessions_by_hostname        ON sessions (hostname, start_time);
CREATE INDEX sessions_by_host_id         ON sessions (host_id, start_time);
CREATE INDEX sessions_by_client_address  ON sessions USING hash (client_address);
CREATE INDEX sessions_by_key_fingerprint ON sessions USING hash (key_fingerprint);
CREATE INDEX sessions_by_certificate     ON sessions USING hash (certificate_id);
CREATE INDEX sessions_by_serial          ON sessions (certificate_serial);
CREATE INDEX sessions_by_request_id      ON sessions USING hash (request_id);
CREATE INDEX sessions_by_requester       ON sessions USING hash (requester);
CREATE INDEX sessions_by_ticket          ON sessions USING hash (ticket);
CREATE INDEX sessions_by_parent          ON sessions USING hash (parent_session_id);
CREATE INDEX sessions_by_state           ON sessions (state, start_time);
CREATE INDEX sessions_by_grant_status    ON sessions (grant_status, start_time);
CREATE INDEX sessions_by_verdict         ON sessions (verdict, start_time);

CREATE TABLE session_approvers (
    approver   TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (session_id)
);

CREATE INDEX session_approvers_by_approver ON session_approvers USING hash (approver);
CREATE INDEX session_approvers_by_session  ON session_approvers (session_id);

CREATE TABLE commands (
    session_id   TEXT COLLATE "C" NOT NULL REFERENCES session_hosts (session_id),
    seq          BIGINT NOT NULL,
    message      BYTEA  NOT NULL,
    pid          BIGINT NOT NULL,
    parent_pid   BIGINT NOT NULL,
    exe          TEXT COLLATE "C" NOT NULL,
    filename     TEXT COLLATE "C" NOT NULL,
    cwd          TEXT COLLATE "C" NOT NULL,
    command_line TEXT COLLATE "C" NOT NULL,
    uid          BIGINT NOT NULL,
    euid         BIGINT NOT NULL,
    login_uid    BIGINT,
    start_time   BIGINT NOT NULL,
    PRIMARY KEY (session_id, seq)
);

CREATE TABLE command_ends (
    session_id  TEXT COLLATE "C" NOT NULL REFERENCES session_hosts (session_id),
    seq         BIGINT NOT NULL,
    exit_code   BIGINT,
    signal      BIGINT,
    duration_ns BIGINT NOT NULL,
    PRIMARY KEY (session_id, seq)
);

CREATE TABLE activities (
    session_id        TEXT COLLATE "C" NOT NULL REFERENCES session_hosts (session_id),
    seq               BIGINT NOT NULL,
    message           BYTEA  NOT NULL,
    time              BIGINT NOT NULL,
    pid               BIGINT NOT NULL,
    kind              BIGINT NOT NULL,
    path              TEXT COLLATE "C",
    target            TEXT COLLATE "C",
    operation         BIGINT,
    protocol          BIGINT,
    direction         BIGINT,
    byte_count        NUMERIC,
    errno             BIGINT,
    role              BIGINT,
    forwarded         BIGINT,
    local_address     TEXT COLLATE "C",
    local_port        BIGINT,
    remote_address    TEXT COLLATE "C",
    remote_port       BIGINT,
    relation          BIGINT,
    linked_session_id TEXT COLLATE "C",
    handoff_to        BIGINT,
    PRIMARY KEY (session_id, seq)
);

CREATE TABLE connect_ends (
    session_id     TEXT COLLATE "C" NOT NULL REFERENCES session_hosts (session_id),
    seq            BIGINT NOT NULL,
    sent_bytes     BIGINT,
    received_bytes BIGINT,
    duration_ns    BIGINT NOT NULL,
    PRIMARY KEY (session_id, seq)
);
