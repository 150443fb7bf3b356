-- Which transaction changed a session last, counted in one row. The generation
-- tells one database from another, whose numbers mean something else.

ALTER TABLE sessions ADD COLUMN change INTEGER NOT NULL DEFAULT 0;

CREATE INDEX sessions_by_change ON sessions (change, session_id);

CREATE TABLE session_changes (
    change     INTEGER NOT NULL,
    generation TEXT    NOT NULL
) STRICT;

INSERT INTO session_changes (change, generation) VALUES (0, lower(hex(randomblob(16))));
