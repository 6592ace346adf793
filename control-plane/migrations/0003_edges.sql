-- Edges that enrolled, and what the replica that an edge is connected to last wrote about it.
CREATE TABLE edges (
    id             TEXT   NOT NULL PRIMARY KEY,
    enroll_us      BIGINT NOT NULL,
    replica        TEXT   NOT NULL,
    connection     BIGINT NOT NULL,
    beat_us        BIGINT NOT NULL,
    state_us       BIGINT NOT NULL,
    version        TEXT   NOT NULL,
    client_address TEXT   NOT NULL,
    sent_revision  BIGINT NOT NULL,
    answered_revision BIGINT NOT NULL,
    acked_revision BIGINT NOT NULL,
    behind_us      BIGINT NOT NULL,
    refusals       BYTEA  NOT NULL
);

CREATE TABLE join_tokens (
    hash      TEXT   NOT NULL PRIMARY KEY,
    create_us BIGINT NOT NULL,
    expire_us BIGINT NOT NULL,
    max_uses  BIGINT NOT NULL,
    uses      BIGINT NOT NULL
);

-- Work that only one replica does. The token grows with every change of holder and fences its writes.
CREATE TABLE leases (
    name      TEXT   NOT NULL PRIMARY KEY,
    holder    TEXT   NOT NULL,
    token     BIGINT NOT NULL,
    expire_us BIGINT NOT NULL
);
