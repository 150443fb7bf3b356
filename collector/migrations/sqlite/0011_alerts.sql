-- What somebody should look at: one row a cause, whose text is a SHA-256. `message`
-- is the encoded auditty.v1.Alert; what filters can name is a column.

CREATE TABLE alerts (
    tenant     TEXT    NOT NULL,
    cause      TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    message    BLOB    NOT NULL,
    alert_id   TEXT    NOT NULL,
    kind       INTEGER NOT NULL,
    time       INTEGER NOT NULL,
    summary    TEXT    NOT NULL,
    host_id    TEXT    NOT NULL,
    hostname   TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    "user"     TEXT    NOT NULL,
    rule       TEXT    NOT NULL,
    PRIMARY KEY (tenant, cause)
) STRICT;

CREATE UNIQUE INDEX alerts_by_revision ON alerts (revision);
CREATE INDEX alerts_by_tenant  ON alerts (tenant, revision);
CREATE INDEX alerts_by_kind    ON alerts (kind, revision);
CREATE INDEX alerts_by_host    ON alerts (host_id, revision);
CREATE INDEX alerts_by_session ON alerts (session_id, revision);

-- One row, as of grants: new alerts stand in line for it.
CREATE TABLE alert_revisions (
    revision   INTEGER NOT NULL,
    generation TEXT    NOT NULL
) STRICT;

INSERT INTO alert_revisions (revision, generation)
VALUES (0, lower(hex(randomblob(16))));

-- Up to which revision each destination has the alerts, and which collector
-- delivers there until when.
CREATE TABLE alert_cursors (
    destination TEXT    NOT NULL PRIMARY KEY,
    revision    INTEGER NOT NULL,
    holder      TEXT    NOT NULL,
    held_until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
