-- The resource log. One text for SQLite and PostgreSQL: TEXT, BIGINT and BYTEA columns only, times as
-- microseconds since the epoch. The collation "binary" is built into SQLite, and made from "C" on
-- PostgreSQL before the first migration, so that names sort by their bytes everywhere.

-- One row. The first statement of every write transaction increments it, which makes writers queue and
-- revisions become visible in order.
create table revision (
    id BIGINT not null primary key,
    value BIGINT not null
);
insert into revision (id, value) values (1, 0);

-- A deleted resource stays as a row with `deleted` set (0: it exists), so that readers of the log learn of it.
create table resources (
    kind TEXT not null,
    name TEXT collate "binary" not null,
    parent TEXT collate "binary" not null,
    uid TEXT not null,
    revision BIGINT not null,
    created BIGINT not null,
    updated BIGINT not null,
    deleted BIGINT not null,
    apply_set TEXT not null,
    body BYTEA not null,
    status BYTEA not null,
    primary key (kind, name)
);
create index resources_by_revision on resources (revision);
create index resources_by_parent on resources (parent, kind, name);

-- What can be selected by, of resources that exist.
create table labels (
    kind TEXT not null,
    name TEXT collate "binary" not null,
    key TEXT collate "binary" not null,
    value TEXT collate "binary" not null,
    primary key (kind, name, key)
);
create index labels_by_value on labels (kind, key, value);

-- Who refers to whom, of resources that exist: a row for each name that a resource holds of another.
create table refs (
    name TEXT collate "binary" not null,
    target TEXT collate "binary" not null,
    primary key (name, target)
);
create index refs_by_target on refs (target);

-- Sealed secrets of resources. The sealed bytes say with which key.
create table secrets (
    name TEXT collate "binary" not null primary key,
    uid TEXT not null,
    version TEXT not null,
    sealed BYTEA not null
);
