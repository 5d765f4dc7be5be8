-- +goose Up
-- versions counts the versions ever made: the number of the next one is one more.
CREATE TABLE model_repo (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant_id    TEXT NOT NULL,
    name         TEXT NOT NULL,
    name_lower   TEXT NOT NULL,
    description  TEXT NOT NULL,
    visibility   TEXT NOT NULL CONSTRAINT model_repo_visibility_check CHECK (visibility IN ('tenant')),
    versions     BIGINT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    rev          BIGINT NOT NULL,
    CONSTRAINT model_repo_tenant_id_name_lower_key UNIQUE (tenant_id, name_lower)
);

-- reason and metadata are JSON; reason is '' while there is none.
CREATE TABLE model_version (
    id               TEXT NOT NULL PRIMARY KEY,
    tenant_id        TEXT NOT NULL,
    repo_id          TEXT NOT NULL CONSTRAINT model_version_repo_id_fkey REFERENCES model_repo (id) ON DELETE CASCADE,
    number           BIGINT NOT NULL,
    status           TEXT NOT NULL CONSTRAINT model_version_status_check CHECK (status IN ('pending', 'validating', 'ready', 'warned', 'rejected', 'failed', 'retired')),
    message          TEXT NOT NULL,
    format           TEXT NOT NULL,
    architecture     TEXT NOT NULL,
    parameters       BIGINT NOT NULL,
    context_length   BIGINT NOT NULL,
    quantization     TEXT NOT NULL,
    size_bytes       BIGINT NOT NULL,
    manifest_sha256  TEXT NOT NULL,
    reason           TEXT NOT NULL,
    metadata         TEXT NOT NULL,
    job_id           TEXT NOT NULL,
    created_by       TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    CONSTRAINT model_version_repo_id_number_key UNIQUE (repo_id, number)
);

CREATE TABLE model_file (
    version_id  TEXT NOT NULL CONSTRAINT model_file_version_id_fkey REFERENCES model_version (id) ON DELETE CASCADE,
    path        TEXT NOT NULL,
    tenant_id   TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    size_bytes  BIGINT NOT NULL,
    PRIMARY KEY (version_id, path)
);
-- Is this blob named by a version? (collection of garbage)
CREATE INDEX model_file_tenant_id_sha256_idx ON model_file (tenant_id, sha256);

-- A row says that the object blob/<tenant>/<2 hex>/<64 hex> is there, and in which step of going away it is.
CREATE TABLE model_blob (
    tenant_id   TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    size_bytes  BIGINT NOT NULL,
    state       TEXT NOT NULL CONSTRAINT model_blob_state_check CHECK (state IN ('live', 'condemned', 'deleting')),
    created_at  BIGINT NOT NULL,
    touched_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX model_blob_state_touched_at_idx ON model_blob (state, touched_at);

-- What a check of one blob's bytes found, so that an unchanged file is not read again.
CREATE TABLE model_check (
    tenant_id      TEXT NOT NULL,
    sha256         TEXT NOT NULL,
    check_id       TEXT NOT NULL,
    check_version  BIGINT NOT NULL,
    at             BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, sha256, check_id)
);

CREATE TABLE model_report (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    version_id  TEXT NOT NULL CONSTRAINT model_report_version_id_fkey REFERENCES model_version (id) ON DELETE CASCADE,
    status      TEXT NOT NULL,
    checks      TEXT NOT NULL,
    at          BIGINT NOT NULL
);
CREATE INDEX model_report_version_id_idx ON model_report (version_id, id);
