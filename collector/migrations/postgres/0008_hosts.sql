-- As SQLite's migration 10 has it.

ALTER TABLE hosts ADD COLUMN message BYTEA NOT NULL DEFAULT '';

CREATE TABLE host_silences (
    tenant  TEXT COLLATE "C" NOT NULL,
    host_id TEXT COLLATE "C" NOT NULL,
    since   BIGINT NOT NULL,
    until   BIGINT,
    PRIMARY KEY (tenant, host_id, since)
);

CREATE UNIQUE INDEX host_silences_now ON host_silences (tenant, host_id) WHERE until IS NULL;

INSERT INTO host_silences
SELECT tenant, host_id, last_heard_time, NULL FROM hosts
WHERE last_heard_time < (extract(epoch FROM now())::BIGINT - 3600) * 1000000000;
