-- Connections that sshd did not let in, one row each, or one for several of a
-- flood. `message` is the encoded auditty.v1.FailedLogin; what filters can name is
-- a column.

CREATE TABLE failed_logins (
    tenant           TEXT    NOT NULL,
    message          BLOB    NOT NULL,
    failed_login_id  TEXT    NOT NULL,
    host_id          TEXT    NOT NULL,
    hostname         TEXT    NOT NULL,
    client_address   TEXT    NOT NULL,
    client_port      INTEGER NOT NULL,
    "user"           TEXT    NOT NULL,
    outcome          INTEGER NOT NULL,
    start_time       INTEGER NOT NULL,
    end_time         INTEGER NOT NULL,
    connection_count INTEGER NOT NULL,
    connection_id    TEXT    NOT NULL,
    PRIMARY KEY (host_id, tenant, failed_login_id)
) STRICT;

CREATE INDEX failed_logins_by_time    ON failed_logins (start_time, host_id, failed_login_id);
CREATE INDEX failed_logins_by_host    ON failed_logins (host_id, start_time);
CREATE INDEX failed_logins_by_user    ON failed_logins ("user", start_time);
CREATE INDEX failed_logins_by_address ON failed_logins (client_address, start_time);
