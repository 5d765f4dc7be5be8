-- +goose Up

-- More kinds of upstreams. The table is made anew, for SQLite cannot change a CHECK. preset names the entry of the list that the account was made from, '' = none; api_version is part of Azure's addresses.
CREATE TABLE inference_provider_kinds (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('openai', 'anthropic', 'gemini', 'azure')),
    preset      TEXT NOT NULL,
    base_url    TEXT NOT NULL,
    api_version TEXT NOT NULL,
    api_key     TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('unknown', 'ok', 'failed')),
    cause       TEXT NOT NULL,
    checked_at  BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    rev         BIGINT NOT NULL
);

INSERT INTO inference_provider_kinds (id, tenant_id, name, kind, preset, base_url, api_version, api_key, status, cause, checked_at, created_at, updated_at, rev)
SELECT id, tenant_id, name, kind, '', base_url, '', api_key, status, cause, checked_at, created_at, updated_at, rev FROM inference_provider;

DROP TABLE inference_provider;

ALTER TABLE inference_provider_kinds RENAME TO inference_provider;

-- Lists by name; one name a tenant.
CREATE UNIQUE INDEX inference_provider_tenant_id_name_key ON inference_provider (tenant_id, name);
