-- Commands of all sessions, newest first, by parts of their command lines.
--
-- `id` is the start time in nanoseconds, or a number soon after it that was free.
-- The table and the index of texts are both in its order, so that the newest
-- matches of a text are found first, and no other ones are looked at.

CREATE TABLE commands_in_order (
    id               INTEGER NOT NULL PRIMARY KEY,
    session_id       TEXT    NOT NULL REFERENCES session_hosts (session_id),
    seq              INTEGER NOT NULL,
    message          BLOB    NOT NULL,
    pid              INTEGER NOT NULL,
    parent_pid       INTEGER NOT NULL,
    exe              TEXT    NOT NULL,
    filename         TEXT    NOT NULL,
    cwd              TEXT    NOT NULL,
    command_line     TEXT    NOT NULL,
    uid              INTEGER NOT NULL,
    euid             INTEGER NOT NULL,
    login_uid        INTEGER,
    start_time       INTEGER NOT NULL,
    content_withheld INTEGER NOT NULL,
    UNIQUE (session_id, seq)
) STRICT;

-- Trigrams alone, without their places and without the text: what the index
-- finds is looked at again.
CREATE VIRTUAL TABLE command_texts USING fts5 (
    command_line, content = '', columnsize = 0, detail = none, tokenize = 'trigram'
);

CREATE TRIGGER commands_in_order_inserted AFTER INSERT ON commands_in_order BEGIN
    INSERT INTO command_texts (rowid, command_line) VALUES (new.id, new.command_line);
END;

-- The least numbers in order that are not before the start times. A command that
-- ran has an image: one without has it withheld.
INSERT INTO commands_in_order
SELECT max(start_time - place) OVER (ORDER BY place) + place,
    session_id, seq, message, pid, parent_pid, exe, filename, cwd, command_line,
    uid, euid, login_uid, start_time,
    exe = '' AND filename = '' AND command_line = ''
FROM (
    SELECT *, row_number() OVER (ORDER BY start_time, session_id, seq) AS place
    FROM commands
)
ORDER BY place;

DROP TABLE commands;
ALTER TABLE commands_in_order RENAME TO commands;

CREATE INDEX commands_withheld ON commands (content_withheld) WHERE content_withheld = 1;
