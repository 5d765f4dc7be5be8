-- +goose Up
-- What a subject may do per minute, or at a time. by_operator: set by the operator of the installation; the tenant sees it and cannot change it. burst 0 = by the unit.
CREATE TABLE user_limit (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant_id    TEXT NOT NULL CONSTRAINT user_limit_tenant_id_fkey REFERENCES user_tenant (id),
    subject_kind TEXT NOT NULL CONSTRAINT user_limit_subject_kind_check CHECK (subject_kind IN ('tenant', 'project', 'user', 'key', 'model')),
    subject_id   TEXT NOT NULL,
    unit         TEXT NOT NULL CONSTRAINT user_limit_unit_check CHECK (unit IN ('requests', 'tokens', 'concurrent')),
    most         BIGINT NOT NULL CONSTRAINT user_limit_most_check CHECK (most >= 0),
    burst        BIGINT NOT NULL CONSTRAINT user_limit_burst_check CHECK (burst >= 0),
    by_operator  BOOLEAN NOT NULL,
    deleted_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    rev          BIGINT NOT NULL
);
CREATE UNIQUE INDEX user_limit_subject_key ON user_limit (tenant_id, subject_kind, subject_id, unit, by_operator) WHERE deleted_at = 0;
CREATE INDEX user_limit_tenant_id_created_at_idx ON user_limit (tenant_id, created_at, id);
CREATE INDEX user_limit_version_idx ON user_limit (version);

-- A process that takes calls. place names the folder that holds its journal: another place under the same name is a copy. report is JSON: what it says of its limits.
CREATE TABLE user_node (
    node       TEXT NOT NULL PRIMARY KEY,
    epoch      BIGINT NOT NULL,
    place      TEXT NOT NULL,
    report     TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL
);
CREATE INDEX user_node_seen_at_idx ON user_node (seen_at);
