-- +goose Up

-- Requests per deployment and minute, kept for 30 days; rows of deleted deployments stay.
CREATE TABLE inference_stat (
    tenant_id     TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    at            BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    errors        BIGINT NOT NULL,
    prompt        BIGINT NOT NULL,
    cached        BIGINT NOT NULL,
    completion    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, deployment_id, at)
);

-- The overview of a tenant over a day.
CREATE INDEX inference_stat_tenant_id_at_idx ON inference_stat (tenant_id, at);

-- What is old goes.
CREATE INDEX inference_stat_at_idx ON inference_stat (at);

-- Deployments of a model version.
CREATE INDEX inference_deployment_tenant_id_version_id_idx ON inference_deployment (tenant_id, version_id);

-- History that is old goes.
CREATE INDEX inference_transition_at_idx ON inference_transition (at);
