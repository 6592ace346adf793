-- The last round of input with which the call went on that an approval was used for. 0: it has not gone on.
ALTER TABLE approvals ADD COLUMN rounds BIGINT NOT NULL DEFAULT 0;
