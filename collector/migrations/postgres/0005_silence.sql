-- As SQLite's migration 7 has it.

CREATE TABLE hosts (
    tenant           TEXT COLLATE "C" NOT NULL,
    host_id          TEXT COLLATE "C" NOT NULL,
    boot_id          TEXT COLLATE "C" NOT NULL,
    first_heard_time BIGINT NOT NULL,
    last_heard_time  BIGINT NOT NULL,
    PRIMARY KEY (tenant, host_id)
);

CREATE INDEX hosts_by_last_heard ON hosts (last_heard_time);

INSERT INTO hosts
SELECT DISTINCT tenant, host_id, '',
    extract(epoch FROM now())::BIGINT * 1000000000, extract(epoch FROM now())::BIGINT * 1000000000
FROM sessions WHERE state = 1;

CREATE TABLE silent_sessions (
    session_id TEXT COLLATE "C" PRIMARY KEY REFERENCES sessions (session_id),
    tenant     TEXT COLLATE "C" NOT NULL,
    host_id    TEXT COLLATE "C" NOT NULL,
    message    BYTEA NOT NULL
);

CREATE INDEX silent_sessions_by_host ON silent_sessions (tenant, host_id);
