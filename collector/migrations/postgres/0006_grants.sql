-- Approved accesses. `message` is the encoded auditty.v1.AccessGrant; times are
-- nanoseconds since 1970 UTC.

CREATE TABLE grants (
    tenant     TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    revision   BIGINT NOT NULL, -- of its latest change
    valid_from BIGINT,
    over_at    BIGINT,          -- runs out or was revoked, the earlier
    message    BYTEA  NOT NULL,
    PRIMARY KEY (tenant, request_id)
);

CREATE UNIQUE INDEX grants_by_revision ON grants (revision);
CREATE INDEX grants_by_tenant ON grants (tenant, revision);

-- One row. Changes of grants stand in line for it, so whoever has seen a
-- revision has seen all before it. The generation tells one database from
-- another, whose revisions mean something else.
CREATE TABLE grant_revisions (
    revision   BIGINT NOT NULL,
    generation TEXT COLLATE "C" NOT NULL
);

INSERT INTO grant_revisions (revision, generation)
VALUES (0, md5(random()::text || clock_timestamp()::text));
