-- Who asked what: one row for every answered or refused call. `message` is the
-- encoded auditty.v1.AuditRecord; what filters can name is a column.

CREATE TABLE audit_records (
    audit_id TEXT    NOT NULL PRIMARY KEY, -- UUID version 7: in the order of time
    tenant   TEXT    NOT NULL,
    message  BLOB    NOT NULL,
    time     INTEGER NOT NULL,
    caller   TEXT    NOT NULL,
    address  TEXT    NOT NULL,
    method   TEXT    NOT NULL,
    outcome  TEXT    NOT NULL,
    refused  INTEGER NOT NULL,
    request  TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_records_by_tenant  ON audit_records (tenant, audit_id);
CREATE INDEX audit_records_by_caller  ON audit_records (caller, audit_id);
CREATE INDEX audit_records_by_method  ON audit_records (method, audit_id);
CREATE INDEX audit_records_by_outcome ON audit_records (outcome, audit_id);
