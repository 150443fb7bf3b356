-- As SQLite's migration 16 has it.

SET LOCAL statement_timeout = 0;

CREATE TABLE session_persons (
    person     TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (session_id)
);

INSERT INTO session_persons (person, session_id)
SELECT certificate_id, session_id FROM sessions WHERE certificate_id <> ''
UNION
SELECT requester, session_id FROM sessions WHERE requester <> '';

CREATE INDEX session_persons_by_person  ON session_persons USING hash (person);
CREATE INDEX session_persons_by_session ON session_persons (session_id);
