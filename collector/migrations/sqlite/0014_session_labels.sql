-- The labels of the hosts of sessions, as texts `key=value`. Sessions that were
-- stored before have theirs when they are reported again.

CREATE TABLE session_labels (
    label      TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (session_id),
    PRIMARY KEY (label, session_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX session_labels_by_session ON session_labels (session_id);
