-- As SQLite's migration 5 has it.

CREATE TABLE receipts (
    session_id TEXT COLLATE "C" NOT NULL REFERENCES session_hosts (session_id),
    chunks     BIGINT NOT NULL,
    chain_head TEXT COLLATE "C" NOT NULL,
    host_id    TEXT COLLATE "C" NOT NULL,
    tenant     TEXT COLLATE "C" NOT NULL,
    json       TEXT COLLATE "C" NOT NULL,
    signature  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (session_id, chunks, chain_head)
);

CREATE INDEX receipts_by_host   ON receipts (host_id, session_id, chunks, chain_head);
CREATE INDEX receipts_by_tenant ON receipts (tenant, session_id, chunks, chain_head);
