-- What callers say their calls are for. Calls from before said nothing.

ALTER TABLE audit_records ADD COLUMN purpose TEXT NOT NULL DEFAULT '';

CREATE INDEX audit_records_by_purpose ON audit_records (purpose, audit_id);
