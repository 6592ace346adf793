-- The control planes that run, as each says of itself: where it is, and where upstreams may be by its egress rule.
CREATE TABLE replicas (
    id      TEXT   NOT NULL PRIMARY KEY,
    place   TEXT   NOT NULL,
    egress  TEXT   NOT NULL,
    beat_us BIGINT NOT NULL
);
