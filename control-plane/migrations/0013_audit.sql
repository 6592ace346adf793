-- Who did what, as a chain: `hash` is the SHA-256 of the hash before it and of `body`, which is the record, encoded. The other columns
-- are what it can be looked up by.
CREATE TABLE audit (
    sequence BIGINT NOT NULL PRIMARY KEY,
    time_us  BIGINT NOT NULL,
    kind     BIGINT NOT NULL,
    actor    TEXT   NOT NULL,
    action   TEXT   NOT NULL,
    resource TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    body     BYTEA  NOT NULL,
    hash     TEXT   NOT NULL
);
CREATE INDEX audit_by_time ON audit (time_us);
CREATE INDEX audit_by_actor ON audit (actor, sequence);
CREATE INDEX audit_by_resource ON audit (resource, sequence);

-- The last record, whose row makes those who write wait for each other; and the first one that is kept, with the hash before it and
-- the signature over both, empty where nothing was removed yet.
CREATE TABLE audit_head (
    id         BIGINT NOT NULL PRIMARY KEY,
    sequence   BIGINT NOT NULL,
    hash       TEXT   NOT NULL,
    first      BIGINT NOT NULL,
    first_hash TEXT   NOT NULL,
    first_seal TEXT   NOT NULL
);
INSERT INTO audit_head (id, sequence, hash, first, first_hash, first_seal) VALUES (1, 0,
    '0000000000000000000000000000000000000000000000000000000000000000', 1,
    '0000000000000000000000000000000000000000000000000000000000000000', '');

-- Signatures over the chain up to a record.
CREATE TABLE audit_seals (
    sequence BIGINT NOT NULL PRIMARY KEY,
    time_us  BIGINT NOT NULL,
    seal     TEXT   NOT NULL
);

-- The last batch stored of each run of each edge: what was stored is not stored again.
CREATE TABLE audit_runs (
    edge     TEXT   NOT NULL,
    run_id   TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    seen_us  BIGINT NOT NULL,
    PRIMARY KEY (edge, run_id)
);
