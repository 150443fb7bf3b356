-- Approved accesses. `message` is the encoded auditty.v1.AccessGrant; times are
-- nanoseconds since 1970 UTC.

CREATE TABLE grants (
    tenant     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    revision   INTEGER NOT NULL, -- of its latest change
    valid_from INTEGER,
    over_at    INTEGER,          -- runs out or was revoked, the earlier
    message    BLOB    NOT NULL,
    PRIMARY KEY (tenant, request_id)
) STRICT;

CREATE UNIQUE INDEX grants_by_revision ON grants (revision);
CREATE INDEX grants_by_tenant ON grants (tenant, revision);

-- One row. Changes of grants stand in line for it, so whoever has seen a
-- revision has seen all before it. The generation tells one database from
-- another, whose revisions mean something else.
CREATE TABLE grant_revisions (
    revision   INTEGER NOT NULL,
    generation TEXT    NOT NULL
) STRICT;

INSERT INTO grant_revisions (revision, generation)
VALUES (0, lower(hex(randomblob(16))));
