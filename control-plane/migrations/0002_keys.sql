-- Keys, sealed: data keys by the master key, all others by a data key.
CREATE TABLE keys (
    purpose   TEXT   NOT NULL,
    id        BIGINT NOT NULL,
    name      TEXT   NOT NULL,
    sealed    BYTEA  NOT NULL,
    public    TEXT   NOT NULL,
    create_us BIGINT NOT NULL,
    active_us BIGINT NOT NULL,
    PRIMARY KEY (purpose, id)
);
