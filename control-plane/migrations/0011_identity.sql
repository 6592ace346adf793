-- Whose a resource is, mirrored from its body so that lists can select by it. `owner` and `team` are names; empty: nobody, none.
-- `visibility` is the number of the contract's `Visibility`, where 0 is said to be private.
ALTER TABLE resources ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE resources ADD COLUMN team TEXT NOT NULL DEFAULT '';
ALTER TABLE resources ADD COLUMN visibility BIGINT NOT NULL DEFAULT 0;
CREATE INDEX resources_by_owner ON resources (kind, owner, name);
CREATE INDEX resources_by_team ON resources (kind, team, name);
CREATE INDEX resources_by_visibility ON resources (kind, visibility, name);

-- Users and service accounts. Beside the log, because edges learn of none of them. `state` is the number of the contract's
-- `UserState`; of service accounts 2 or 3. `epoch` grows whenever they lose something, and bearers of a lower one are looked at again.
-- `revision` is that of the last change of what they may do.
CREATE TABLE principals (
    uid      TEXT   NOT NULL PRIMARY KEY,
    name     TEXT   COLLATE "binary" NOT NULL UNIQUE,
    email    TEXT   COLLATE "binary" UNIQUE,
    title    TEXT   NOT NULL,
    owner    TEXT   NOT NULL,
    team     TEXT   NOT NULL,
    state    BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created  BIGINT NOT NULL,
    updated  BIGINT NOT NULL,
    signed_in BIGINT NOT NULL
);
CREATE INDEX principals_by_revision ON principals (revision);
CREATE INDEX principals_by_owner ON principals (owner);

-- Passwords as PHC strings of argon2id.
CREATE TABLE passwords (
    uid         TEXT   NOT NULL PRIMARY KEY,
    phc         TEXT   NOT NULL,
    changed     BIGINT NOT NULL,
    must_change BIGINT NOT NULL
);

-- Who is in a team; `role` empty is the one that members, or owners, have.
CREATE TABLE memberships (
    team     TEXT   COLLATE "binary" NOT NULL,
    uid      TEXT   NOT NULL,
    is_owner BIGINT NOT NULL,
    role     TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    added_by TEXT   NOT NULL,
    PRIMARY KEY (team, uid)
);
CREATE INDEX memberships_by_uid ON memberships (uid, team);

-- Who has a role, those of memberships excepted; `team` empty is everywhere.
CREATE TABLE bindings (
    uid      TEXT   NOT NULL,
    role     TEXT   COLLATE "binary" NOT NULL,
    team     TEXT   COLLATE "binary" NOT NULL,
    created  BIGINT NOT NULL,
    added_by TEXT   NOT NULL,
    PRIMARY KEY (uid, role, team)
);
CREATE INDEX bindings_by_role ON bindings (role, uid);
CREATE INDEX bindings_by_team ON bindings (team, uid);

-- Where people are signed in, by the SHA-256 of the credential. `method` is the number of the contract's `SignInMethod`.
CREATE TABLE sessions (
    hash    TEXT   NOT NULL PRIMARY KEY,
    id      TEXT   NOT NULL UNIQUE,
    uid     TEXT   NOT NULL,
    method  BIGINT NOT NULL,
    created BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    address TEXT   NOT NULL,
    agent   TEXT   NOT NULL
);
CREATE INDEX sessions_by_uid ON sessions (uid, created);
CREATE INDEX sessions_by_end ON sessions (expires);

-- API keys, by their public ids; `hash` is the SHA-256 of the whole key, `expires` 0 is never, `seen` 0 is never.
CREATE TABLE api_keys (
    id      TEXT   NOT NULL PRIMARY KEY,
    hash    TEXT   NOT NULL,
    uid     TEXT   NOT NULL,
    title   TEXT   NOT NULL,
    role    TEXT   NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    address TEXT   NOT NULL
);
CREATE INDEX api_keys_by_uid ON api_keys (uid, created);

-- Secrets that are used once, by their SHA-256. `purpose` is `setup`, `invite`, `reset` or `sign-in`; `used` 0 is not yet.
CREATE TABLE one_time_links (
    hash    TEXT   NOT NULL PRIMARY KEY,
    purpose TEXT   NOT NULL,
    uid     TEXT   NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used    BIGINT NOT NULL
);
CREATE INDEX one_time_links_by_uid ON one_time_links (uid);
CREATE INDEX one_time_links_by_end ON one_time_links (expires);

-- Failed sign-ins, by what they are counted for, and the devices that someone has signed in from.
CREATE TABLE sign_in_failures (
    key     TEXT   NOT NULL PRIMARY KEY,
    count   BIGINT NOT NULL,
    until   BIGINT NOT NULL,
    updated BIGINT NOT NULL
);
CREATE INDEX sign_in_failures_by_time ON sign_in_failures (updated);
CREATE TABLE known_devices (
    uid  TEXT   NOT NULL,
    hash TEXT   NOT NULL,
    seen BIGINT NOT NULL,
    PRIMARY KEY (uid, hash)
);

-- What bearers that are still in use have lost: those of `uid` below `epoch`. Role and team both empty: all; an empty role alone: every
-- role in the team.
CREATE TABLE withdrawals (
    uid      TEXT   NOT NULL,
    epoch    BIGINT NOT NULL,
    role     TEXT   NOT NULL,
    team     TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    PRIMARY KEY (uid, epoch, role, team)
);

-- What was leased of quotas, by bucket and start of the period, and the last request of each run of each edge.
CREATE TABLE quotas (
    bucket   TEXT   NOT NULL,
    start_us BIGINT NOT NULL,
    used     BIGINT NOT NULL,
    PRIMARY KEY (bucket, start_us)
);

-- When, and from where, tokens were last used for what. `target` empty: for anything on the server; both empty: for anything.
CREATE TABLE last_uses (
    token   TEXT   NOT NULL,
    server  TEXT   NOT NULL,
    target  TEXT   NOT NULL,
    time_us BIGINT NOT NULL,
    address TEXT   NOT NULL,
    PRIMARY KEY (token, server, target)
);
CREATE INDEX last_uses_by_target ON last_uses (target, time_us);
