-- What each host says of itself: the encoded auditty.v1.HostReport, empty where it
-- has said nothing.
ALTER TABLE hosts ADD COLUMN message BLOB NOT NULL DEFAULT X'';

-- When nothing was heard of a host: since it was last heard of, until it was again.
CREATE TABLE host_silences (
    tenant  TEXT    NOT NULL,
    host_id TEXT    NOT NULL,
    since   INTEGER NOT NULL,
    until   INTEGER,
    PRIMARY KEY (tenant, host_id, since)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX host_silences_now ON host_silences (tenant, host_id) WHERE until IS NULL;

-- Whoever is gone for long is no news.
INSERT INTO host_silences
SELECT tenant, host_id, last_heard_time, NULL FROM hosts
WHERE last_heard_time < (unixepoch() - 3600) * 1000000000;
