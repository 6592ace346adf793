-- The last batch stored of each run of each edge: what was stored is not counted again.
CREATE TABLE usage_runs (
    edge     TEXT   NOT NULL,
    run_id   TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    seen_us  BIGINT NOT NULL,
    PRIMARY KEY (edge, run_id)
);

-- Calls, summed by minute.
CREATE TABLE usage_sums (
    minute_us      BIGINT NOT NULL,
    server         TEXT   NOT NULL,
    token          TEXT   NOT NULL,
    method         TEXT   NOT NULL,
    target         TEXT   NOT NULL,
    outcome        BIGINT NOT NULL,
    calls          BIGINT NOT NULL,
    duration_us    BIGINT NOT NULL,
    request_bytes  BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    PRIMARY KEY (minute_us, server, token, method, target, outcome)
);
