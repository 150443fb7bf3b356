-- As SQLite's migration 15 has it.

ALTER TABLE hosts ADD COLUMN hostname      TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN agent_version TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN capture_mode  TEXT COLLATE "C" NOT NULL DEFAULT '';

CREATE TABLE host_labels (
    label   TEXT COLLATE "C" NOT NULL,
    tenant  TEXT COLLATE "C" NOT NULL,
    host_id TEXT COLLATE "C" NOT NULL
);

CREATE INDEX host_labels_by_label ON host_labels USING hash (label);
CREATE INDEX host_labels_by_host  ON host_labels (tenant, host_id);

CREATE TABLE alert_labels (
    label    TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL
);

CREATE INDEX alert_labels_by_label    ON alert_labels USING hash (label);
CREATE INDEX alert_labels_by_revision ON alert_labels (revision);
