-- When each host was last heard of, by the collector's clock.
CREATE TABLE hosts (
    tenant           TEXT    NOT NULL,
    host_id          TEXT    NOT NULL,
    boot_id          TEXT    NOT NULL,
    first_heard_time INTEGER NOT NULL,
    last_heard_time  INTEGER NOT NULL,
    PRIMARY KEY (tenant, host_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX hosts_by_last_heard ON hosts (last_heard_time);

-- Whoever has a session going on is heard of from now on.
INSERT INTO hosts
SELECT DISTINCT tenant, host_id, '', unixepoch() * 1000000000, unixepoch() * 1000000000
FROM sessions WHERE state = 1;

-- Sessions that were closed because their host fell silent, as they were before.
CREATE TABLE silent_sessions (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (session_id),
    tenant     TEXT NOT NULL,
    host_id    TEXT NOT NULL,
    message    BLOB NOT NULL
) STRICT;

CREATE INDEX silent_sessions_by_host ON silent_sessions (tenant, host_id);
