-- What this collector vouches for: chain heads of recordings, signed with its
-- own time. A number of chunks has one head, unless somebody rewrites: then all
-- of them are kept.

CREATE TABLE receipts (
    session_id TEXT    NOT NULL REFERENCES session_hosts (session_id),
    chunks     INTEGER NOT NULL,
    chain_head TEXT    NOT NULL,
    host_id    TEXT    NOT NULL,
    tenant     TEXT    NOT NULL,
    json       TEXT    NOT NULL,
    signature  TEXT    NOT NULL,
    PRIMARY KEY (session_id, chunks, chain_head)
) STRICT, WITHOUT ROWID;

CREATE INDEX receipts_by_host   ON receipts (host_id, session_id, chunks, chain_head);
CREATE INDEX receipts_by_tenant ON receipts (tenant, session_id, chunks, chain_head);
