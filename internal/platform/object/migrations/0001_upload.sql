-- +goose Up
CREATE TABLE object_upload (
  id TEXT NOT NULL PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  purpose TEXT NOT NULL,
  metadata TEXT NOT NULL,
  size BIGINT NOT NULL,
  offset_at BIGINT NOT NULL DEFAULT 0,
  hash_state BYTEA NOT NULL DEFAULT '',
  sha256 TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL CONSTRAINT object_upload_state_check CHECK (state IN ('open', 'finished', 'consumed')),
  holder TEXT NOT NULL DEFAULT '',
  held_until BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX object_upload_tenant_id_user_id_idx ON object_upload (tenant_id, user_id) WHERE state = 'open';
CREATE INDEX object_upload_expires_at_idx ON object_upload (expires_at);
