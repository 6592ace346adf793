-- Every enrolment of an edge has an id of its own, which the credential of the edge names: one that has ended is not revived by
-- another one of the same edge. Earlier credentials name the time of enrolment.
ALTER TABLE edges ADD COLUMN enrollment TEXT NOT NULL DEFAULT '';
UPDATE edges SET enrollment = CAST(enroll_us AS TEXT);
-- The id of the join token that the edge enrolled with, and the hash of the id of its request.
ALTER TABLE edges ADD COLUMN join_token TEXT NOT NULL DEFAULT '';
ALTER TABLE edges ADD COLUMN request_hash TEXT NOT NULL DEFAULT '';
-- The attempts to enrol under the id of the edge that were refused, and the time, address and join token of the last one.
ALTER TABLE edges ADD COLUMN refused_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE edges ADD COLUMN refused_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE edges ADD COLUMN refused_address TEXT NOT NULL DEFAULT '';
ALTER TABLE edges ADD COLUMN refused_join_token TEXT NOT NULL DEFAULT '';

-- The id by which people name a join token, and the only edge that may enrol with it; empty: any.
ALTER TABLE join_tokens ADD COLUMN id TEXT NOT NULL DEFAULT '';
UPDATE join_tokens SET id = SUBSTR(hash, 1, 12);
ALTER TABLE join_tokens ADD COLUMN edge TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX join_tokens_id ON join_tokens (id);
