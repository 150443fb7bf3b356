-- Which transaction changed a session last. Those below the oldest one that still
-- runs are all there is: nobody has to stand in line to be followed in order.

ALTER TABLE sessions ADD COLUMN change BIGINT NOT NULL DEFAULT 0;

CREATE INDEX sessions_by_change ON sessions (change, session_id);

CREATE TABLE session_changes (
    change     BIGINT NOT NULL, -- SQLite's counter; not used here
    generation TEXT COLLATE "C" NOT NULL
);

INSERT INTO session_changes (change, generation)
VALUES (0, md5(random()::text || clock_timestamp()::text));
