-- How many seals of the audit log were made: each signs its number, so that one that is missing is missed. Those of before have none.
ALTER TABLE audit_head ADD COLUMN seals BIGINT NOT NULL DEFAULT 0;
