-- What hosts have registered: the keys they sign with, and how far their digest
-- chains went. Standings are the numbers of auditty.v1.KeyStanding.

CREATE TABLE host_keys (
    tenant          TEXT    NOT NULL,
    host_id         TEXT    NOT NULL,
    log             TEXT    NOT NULL,
    number          INTEGER NOT NULL,
    sha256          TEXT    NOT NULL,
    public_key      TEXT    NOT NULL,
    fingerprint     TEXT    NOT NULL,
    not_before      INTEGER NOT NULL,
    previous        TEXT    NOT NULL,
    standing        INTEGER NOT NULL,
    registered_time INTEGER NOT NULL,
    PRIMARY KEY (tenant, host_id, log, number, sha256)
) STRICT, WITHOUT ROWID;

-- One key is the first, and of a number one counts.
CREATE UNIQUE INDEX host_keys_first ON host_keys (tenant, host_id) WHERE standing = 1;
CREATE UNIQUE INDEX host_keys_that_count ON host_keys (tenant, host_id, log, number) WHERE standing < 4;

CREATE TABLE digest_heads (
    tenant      TEXT    NOT NULL,
    host_id     TEXT    NOT NULL,
    log         TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    sha256      TEXT    NOT NULL,
    report_time INTEGER NOT NULL,
    PRIMARY KEY (tenant, host_id, log, number, sha256)
) STRICT, WITHOUT ROWID;
