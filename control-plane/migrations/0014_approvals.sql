-- Calls that rules hold back until somebody approves them. `digest` is of the call; `state` is the number of the contract's
-- `ApprovalState`, and one that waits or is approved is over at `expires`, whatever `state` says. `body` is the message without what the
-- columns hold. `owner_uid` is who owns the token, or answers for the service account, that calls, and `answerable_uid` who answers for a
-- service account that owns the token; empty: nobody. `told` is the last state that the webhook was told of: 0 is none yet, -1 is that
-- nobody is told.
CREATE TABLE approvals (
    id             TEXT   COLLATE "binary" NOT NULL PRIMARY KEY,
    digest         TEXT   NOT NULL,
    state          BIGINT NOT NULL,
    principal_uid  TEXT   NOT NULL,
    owner_uid      TEXT   NOT NULL,
    answerable_uid TEXT   NOT NULL,
    server         TEXT   COLLATE "binary" NOT NULL,
    server_uid     TEXT   NOT NULL,
    body           BYTEA  NOT NULL,
    created        BIGINT NOT NULL,
    expires        BIGINT NOT NULL,
    decided        BIGINT NOT NULL,
    decided_by     TEXT   NOT NULL,
    comment        TEXT   NOT NULL,
    used           BIGINT NOT NULL,
    told           BIGINT NOT NULL,
    tell_after     BIGINT NOT NULL,
    tries          BIGINT NOT NULL
);
-- Of one call there is one that waits or can be used.
CREATE UNIQUE INDEX approvals_open ON approvals (digest) WHERE state <= 2;
CREATE INDEX approvals_by_digest ON approvals (digest, created);
CREATE INDEX approvals_by_time ON approvals (created, id);
CREATE INDEX approvals_by_state ON approvals (state, expires);
CREATE INDEX approvals_by_end ON approvals (expires);
CREATE INDEX approvals_by_principal ON approvals (principal_uid, state);
CREATE INDEX approvals_by_owner ON approvals (owner_uid);
CREATE INDEX approvals_by_answerable ON approvals (answerable_uid);
CREATE INDEX approvals_by_server ON approvals (server, created);
CREATE INDEX approvals_to_tell ON approvals (tell_after) WHERE told >= 0 AND told <> state;

-- The ids of webhooks that have decided something, each of which is taken once.
CREATE TABLE approval_webhooks (
    id      TEXT   COLLATE "binary" NOT NULL PRIMARY KEY,
    seen_us BIGINT NOT NULL
);
CREATE INDEX approval_webhooks_by_time ON approval_webhooks (seen_us);
