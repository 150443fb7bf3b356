-- Commands of all sessions, newest first, and those whose text their host keeps
-- out of its reports. The index for parts of command lines needs the extension
-- pg_trgm, which not everybody may create: the collector makes it when it starts.

SET LOCAL statement_timeout = 0;

-- A command that ran has an image.
ALTER TABLE commands ADD COLUMN content_withheld BIGINT NOT NULL DEFAULT 0;
UPDATE commands SET content_withheld = 1 WHERE exe = '' AND filename = '' AND command_line = '';
ALTER TABLE commands ALTER COLUMN content_withheld DROP DEFAULT;

CREATE INDEX commands_by_start ON commands (start_time, session_id, seq);
CREATE INDEX commands_withheld ON commands (start_time, session_id, seq)
    WHERE content_withheld = 1;
