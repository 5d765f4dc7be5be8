-- +goose Up

-- Upstream accounts. api_key is sealed; '' = none.
CREATE TABLE inference_provider (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('openai')),
    base_url    TEXT NOT NULL,
    api_key     TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('unknown', 'ok', 'failed')),
    cause       TEXT NOT NULL,
    checked_at  BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    rev         BIGINT NOT NULL
);

-- Lists by name; one name a tenant.
CREATE UNIQUE INDEX inference_provider_tenant_id_name_key ON inference_provider (tenant_id, name);

-- spec, cause and need are JSON that is read whole. seq counts the rows of inference_transition. rev counts changes by people (it is the ETag), version every write (it guards them).
CREATE TABLE inference_deployment (
    id            TEXT NOT NULL PRIMARY KEY,
    tenant_id     TEXT NOT NULL,
    name          TEXT NOT NULL,
    engine_reason TEXT NOT NULL,
    spec          TEXT NOT NULL,
    version_id    TEXT NOT NULL,
    provider_id   TEXT NOT NULL,
    desired       TEXT NOT NULL CHECK (desired IN ('running', 'stopped')),
    deleting      BOOLEAN NOT NULL,
    revision      BIGINT NOT NULL,
    surge         BOOLEAN NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('stopped', 'pending', 'starting', 'ready', 'degraded', 'updating', 'failed', 'deleting')),
    cause         TEXT NOT NULL,
    need          TEXT NOT NULL,
    seq           BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    rev           BIGINT NOT NULL,
    version       BIGINT NOT NULL
);

-- Lists by name; one public name a tenant.
CREATE UNIQUE INDEX inference_deployment_tenant_id_name_key ON inference_deployment (tenant_id, name);

-- Who uses a provider: asked before it is deleted, and when its key changes.
CREATE INDEX inference_deployment_tenant_id_provider_id_idx ON inference_deployment (tenant_id, provider_id);

-- Replicas; those in a final state are kept as history. ref tells how to find the process after a restart of the server.
CREATE TABLE inference_replica (
    id            TEXT NOT NULL PRIMARY KEY,
    tenant_id     TEXT NOT NULL,
    deployment_id TEXT NOT NULL REFERENCES inference_deployment (id) ON DELETE CASCADE,
    revision      BIGINT NOT NULL,
    spec          TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('pending', 'fitting', 'starting', 'loading', 'ready', 'draining', 'stopped', 'failed')),
    cause         TEXT NOT NULL,
    attempt       BIGINT NOT NULL,
    ref           TEXT NOT NULL,
    need          TEXT NOT NULL,
    measured      BIGINT NOT NULL,
    crashes       TEXT NOT NULL,
    backoff       BIGINT NOT NULL,
    retry_at      BIGINT NOT NULL,
    started_at    BIGINT NOT NULL,
    ready_at      BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    rev           BIGINT NOT NULL
);

-- The replicas of a deployment, newest revision first; one per revision. The foreign key's index too.
CREATE UNIQUE INDEX inference_replica_deployment_id_revision_key ON inference_replica (deployment_id, revision);

-- What the loop has to look after: everything that is not final.
CREATE INDEX inference_replica_state_idx ON inference_replica (state);

-- Why each state changed: one row per change, of a replica or (replica_id = '') of the deployment.
CREATE TABLE inference_transition (
    id            TEXT NOT NULL PRIMARY KEY,
    tenant_id     TEXT NOT NULL,
    deployment_id TEXT NOT NULL REFERENCES inference_deployment (id) ON DELETE CASCADE,
    seq           BIGINT NOT NULL,
    replica_id    TEXT NOT NULL,
    attempt       BIGINT NOT NULL,
    from_state    TEXT NOT NULL,
    to_state      TEXT NOT NULL,
    cause         TEXT NOT NULL,
    at            BIGINT NOT NULL
);

-- A deployment's history in order; pages and event streams resume by seq. The foreign key's index too.
CREATE UNIQUE INDEX inference_transition_deployment_id_seq_key ON inference_transition (deployment_id, seq);
