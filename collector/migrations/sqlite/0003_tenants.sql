-- Whose session it is: the tenant in the certificate of the agent that reported
-- it, empty where there is only one.

ALTER TABLE session_hosts ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN tenant TEXT NOT NULL DEFAULT '';

CREATE INDEX sessions_by_tenant ON sessions (tenant, start_time);
