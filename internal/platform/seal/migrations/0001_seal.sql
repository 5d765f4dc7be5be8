-- +goose Up
CREATE TABLE seal_key (
  tenant_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  master_id TEXT NOT NULL,
  wrapped TEXT NOT NULL,
  state TEXT NOT NULL CONSTRAINT seal_key_state_check CHECK (state IN ('active', 'old', 'destroyed')),
  at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, version)
);
CREATE INDEX seal_key_master_id_idx ON seal_key (master_id);
