-- Who has made a token, or had or gave it away since: whoever saw its bearer may have kept it. `maker` is the uid of a person or service
-- account, and `answerable` that of who answered for the service account then; empty: nobody. The administrator's bearer is nobody.
CREATE TABLE token_makers (
    token      TEXT NOT NULL,
    maker      TEXT NOT NULL,
    answerable TEXT NOT NULL,
    PRIMARY KEY (token, maker)
);
CREATE INDEX token_makers_by_maker ON token_makers (maker);
CREATE INDEX token_makers_by_answerable ON token_makers (answerable);

-- Of tokens that are there already, as far as the audit log says who created them.
INSERT INTO token_makers (token, maker, answerable)
SELECT DISTINCT r.uid, p.uid, ''
FROM resources r
JOIN audit a ON a.resource COLLATE "binary" = r.name COLLATE "binary"
JOIN principals p ON p.name COLLATE "binary" = a.actor COLLATE "binary"
WHERE r.kind = 'Token' AND r.deleted = 0 AND a.kind = 1
    AND (a.action LIKE '%/CreateToken' OR a.action LIKE '%/ApplyResources')
    AND a.time_us BETWEEN r.created - 60000000 AND r.created + 60000000
    AND p.created <= a.time_us + 60000000;
