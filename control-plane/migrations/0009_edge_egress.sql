-- Where upstreams may be, as the egress rule of the edge says it; empty: an earlier build, which does not say it.
ALTER TABLE edges ADD COLUMN egress TEXT NOT NULL DEFAULT '';
