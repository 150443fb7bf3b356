-- Who asked what: one row for every answered or refused call. `message` is the
-- encoded auditty.v1.AuditRecord; what filters can name is a column.

CREATE TABLE audit_records (
    audit_id TEXT COLLATE "C" PRIMARY KEY, -- UUID version 7: in the order of time
    tenant   TEXT COLLATE "C" NOT NULL,
    message  BYTEA  NOT NULL,
    time     BIGINT NOT NULL,
    caller   TEXT COLLATE "C" NOT NULL,
    address  TEXT COLLATE "C" NOT NULL,
    method   TEXT COLLATE "C" NOT NULL,
    outcome  TEXT COLLATE "C" NOT NULL,
    refused  BIGINT NOT NULL,
    request  TEXT COLLATE "C" NOT NULL
);

CREATE INDEX audit_records_by_tenant  ON audit_records (tenant, audit_id);
CREATE INDEX audit_records_by_caller  ON audit_records USING hash (caller);
CREATE INDEX audit_records_by_method  ON audit_records (method, audit_id);
CREATE INDEX audit_records_by_outcome ON audit_records (outcome, audit_id);
