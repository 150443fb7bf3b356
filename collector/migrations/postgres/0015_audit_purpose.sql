-- As SQLite's migration 17 has it.

ALTER TABLE audit_records ADD COLUMN purpose TEXT COLLATE "C" NOT NULL DEFAULT '';

CREATE INDEX audit_records_by_purpose ON audit_records (purpose, audit_id);
