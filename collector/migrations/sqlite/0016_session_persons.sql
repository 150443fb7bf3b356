-- By which names people are known, to look for a person by any of them: the key id
-- and the principals of the certificate, and the requester of the grant. Sessions
-- that were stored before have theirs but for the principals, which only their
-- messages hold, until they are reported again.

CREATE TABLE session_persons (
    person     TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (session_id),
    PRIMARY KEY (person, session_id)
) STRICT, WITHOUT ROWID;

INSERT INTO session_persons (person, session_id)
SELECT certificate_id, session_id FROM sessions WHERE certificate_id != ''
UNION
SELECT requester, session_id FROM sessions WHERE requester != '';

CREATE INDEX session_persons_by_session ON session_persons (session_id);
