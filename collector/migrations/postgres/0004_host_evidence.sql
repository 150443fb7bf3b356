-- As SQLite's migration 6 has it.

CREATE TABLE host_keys (
    tenant          TEXT COLLATE "C" NOT NULL,
    host_id         TEXT COLLATE "C" NOT NULL,
    log             TEXT COLLATE "C" NOT NULL,
    number          BIGINT NOT NULL,
    sha256          TEXT COLLATE "C" NOT NULL,
    public_key      TEXT COLLATE "C" NOT NULL,
    fingerprint     TEXT COLLATE "C" NOT NULL,
    not_before      BIGINT NOT NULL,
    previous        TEXT COLLATE "C" NOT NULL,
    standing        BIGINT NOT NULL,
    registered_time BIGINT NOT NULL,
    PRIMARY KEY (tenant, host_id, log, number, sha256)
);

-- One key is the first, and of a number one counts.
CREATE UNIQUE INDEX host_keys_first ON host_keys (tenant, host_id) WHERE standing = 1;
CREATE UNIQUE INDEX host_keys_that_count ON host_keys (tenant, host_id, log, number) WHERE standing < 4;

CREATE TABLE digest_heads (
    tenant      TEXT COLLATE "C" NOT NULL,
    host_id     TEXT COLLATE "C" NOT NULL,
    log         TEXT COLLATE "C" NOT NULL,
    number      BIGINT NOT NULL,
    sha256      TEXT COLLATE "C" NOT NULL,
    report_time BIGINT NOT NULL,
    PRIMARY KEY (tenant, host_id, log, number, sha256)
);
