-- As SQLite's migration 14 has it.

CREATE TABLE session_labels (
    label      TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (session_id)
);

CREATE INDEX session_labels_by_label   ON session_labels USING hash (label);
CREATE INDEX session_labels_by_session ON session_labels (session_id);
