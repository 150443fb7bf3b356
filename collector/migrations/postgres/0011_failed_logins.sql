-- As SQLite's migration 13 has it.

CREATE TABLE failed_logins (
    tenant           TEXT COLLATE "C" NOT NULL,
    message          BYTEA NOT NULL,
    failed_login_id  TEXT COLLATE "C" NOT NULL,
    host_id          TEXT COLLATE "C" NOT NULL,
    hostname         TEXT COLLATE "C" NOT NULL,
    client_address   TEXT COLLATE "C" NOT NULL,
    client_port      BIGINT NOT NULL,
    "user"           TEXT COLLATE "C" NOT NULL,
    outcome          BIGINT NOT NULL,
    start_time       BIGINT NOT NULL,
    end_time         BIGINT NOT NULL,
    connection_count BIGINT NOT NULL,
    connection_id    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (host_id, tenant, failed_login_id)
);

CREATE INDEX failed_logins_by_time    ON failed_logins (start_time, host_id, failed_login_id);
CREATE INDEX failed_logins_by_host    ON failed_logins (host_id, start_time);
CREATE INDEX failed_logins_by_user    ON failed_logins ("user", start_time);
CREATE INDEX failed_logins_by_address ON failed_logins (client_address, start_time);
