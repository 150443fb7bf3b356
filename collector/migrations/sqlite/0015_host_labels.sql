-- What filters over hosts can name of what they say of themselves, and the labels
-- of hosts, and of the hosts of alerts, as texts `key=value`. Hosts say it again
-- within seconds; alerts that were stored before have no labels.

ALTER TABLE hosts ADD COLUMN hostname      TEXT NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN agent_version TEXT NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN capture_mode  TEXT NOT NULL DEFAULT '';

CREATE TABLE host_labels (
    label   TEXT NOT NULL,
    tenant  TEXT NOT NULL,
    host_id TEXT NOT NULL,
    PRIMARY KEY (tenant, host_id, label)
) STRICT, WITHOUT ROWID;

CREATE INDEX host_labels_by_label ON host_labels (label);

CREATE TABLE alert_labels (
    label    TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (revision, label)
) STRICT, WITHOUT ROWID;

CREATE INDEX alert_labels_by_label ON alert_labels (label, revision);
