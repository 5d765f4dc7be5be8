-- +goose Up

-- Routes: public names that lead to chains of deployments. spec is JSON that is read whole; its targets name deployments by id. rev counts changes (it is the ETag and guards writes).
CREATE TABLE inference_route (
    id         TEXT NOT NULL PRIMARY KEY,
    tenant_id  TEXT NOT NULL,
    name       TEXT NOT NULL,
    spec       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    rev        BIGINT NOT NULL
);

-- Lists by name.
CREATE UNIQUE INDEX inference_route_tenant_id_name_key ON inference_route (tenant_id, name);

-- Every name a route answers to, its own and its aliases: one route a name.
CREATE TABLE inference_route_name (
    tenant_id TEXT NOT NULL,
    name      TEXT NOT NULL,
    route_id  TEXT NOT NULL REFERENCES inference_route (id) ON DELETE CASCADE,
    PRIMARY KEY (tenant_id, name)
);

-- The foreign key's index: names are replaced with their route.
CREATE INDEX inference_route_name_route_id_idx ON inference_route_name (route_id);
