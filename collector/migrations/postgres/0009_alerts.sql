-- As SQLite's migration 11 has it.

CREATE TABLE alerts (
    tenant     TEXT COLLATE "C" NOT NULL,
    cause      TEXT COLLATE "C" NOT NULL,
    revision   BIGINT NOT NULL,
    message    BYTEA  NOT NULL,
    alert_id   TEXT COLLATE "C" NOT NULL,
    kind       BIGINT NOT NULL,
    time       BIGINT NOT NULL,
    summary    TEXT COLLATE "C" NOT NULL,
    host_id    TEXT COLLATE "C" NOT NULL,
    hostname   TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    "user"     TEXT COLLATE "C" NOT NULL,
    rule       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, cause)
);

CREATE UNIQUE INDEX alerts_by_revision ON alerts (revision);
CREATE INDEX alerts_by_tenant  ON alerts (tenant, revision);
CREATE INDEX alerts_by_kind    ON alerts (kind, revision);
CREATE INDEX alerts_by_host    ON alerts (host_id, revision);
CREATE INDEX alerts_by_session ON alerts USING hash (session_id);

CREATE TABLE alert_revisions (
    revision   BIGINT NOT NULL,
    generation TEXT COLLATE "C" NOT NULL
);

INSERT INTO alert_revisions (revision, generation)
VALUES (0, md5(random()::text || clock_timestamp()::text));

CREATE TABLE alert_cursors (
    destination TEXT COLLATE "C" PRIMARY KEY,
    revision    BIGINT NOT NULL,
    holder      TEXT COLLATE "C" NOT NULL,
    held_until  BIGINT NOT NULL
);
