-- +goose Up
CREATE TABLE job_entry (
  id TEXT NOT NULL PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  lane TEXT NOT NULL,
  subject_kind TEXT NOT NULL DEFAULT '',
  subject_id TEXT NOT NULL DEFAULT '',
  key TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL CONSTRAINT job_entry_state_check CHECK (state IN ('queued', 'waiting', 'running', 'succeeded', 'failed', 'cancelled')),
  priority BIGINT NOT NULL DEFAULT 0,
  cost BIGINT NOT NULL DEFAULT 1,
  run_at BIGINT NOT NULL,
  not_before BIGINT NOT NULL DEFAULT 0,
  parent TEXT NOT NULL DEFAULT '',
  attempt BIGINT NOT NULL DEFAULT 0,
  max_attempts BIGINT NOT NULL,
  deaths BIGINT NOT NULL DEFAULT 0,
  fence BIGINT NOT NULL DEFAULT 0,
  node TEXT NOT NULL DEFAULT '',
  lease_until BIGINT NOT NULL DEFAULT 0,
  cancel_at BIGINT NOT NULL DEFAULT 0,
  stage TEXT NOT NULL DEFAULT '',
  done BIGINT NOT NULL DEFAULT 0,
  total BIGINT NOT NULL DEFAULT 0,
  unit TEXT NOT NULL DEFAULT '',
  note TEXT NOT NULL DEFAULT '',
  payload TEXT NOT NULL,
  checkpoint TEXT NOT NULL DEFAULT '',
  result TEXT NOT NULL DEFAULT '',
  error TEXT NOT NULL DEFAULT '',
  wait_code TEXT NOT NULL DEFAULT '',
  wait_message TEXT NOT NULL DEFAULT '',
  wait_since BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  started_at BIGINT NOT NULL DEFAULT 0,
  finished_at BIGINT NOT NULL DEFAULT 0,
  dismissed_at BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX job_entry_tenant_id_kind_key_key ON job_entry (tenant_id, kind, key) WHERE key <> '' AND finished_at = 0;
CREATE INDEX job_entry_lane_tenant_id_idx ON job_entry (lane, tenant_id, priority DESC, run_at, id) WHERE state = 'queued';
CREATE INDEX job_entry_run_at_idx ON job_entry (run_at) WHERE state = 'waiting';
CREATE INDEX job_entry_lease_until_idx ON job_entry (lease_until) WHERE state = 'running';
CREATE INDEX job_entry_parent_idx ON job_entry (parent) WHERE parent <> '' AND state = 'waiting';
CREATE INDEX job_entry_finished_at_idx ON job_entry (finished_at) WHERE finished_at > 0;
CREATE INDEX job_entry_tenant_id_id_idx ON job_entry (tenant_id, id);
CREATE INDEX job_entry_tenant_id_subject_id_idx ON job_entry (tenant_id, subject_id) WHERE subject_id <> '';
CREATE INDEX job_entry_tenant_id_dead_idx ON job_entry (tenant_id, id) WHERE state = 'failed' AND dismissed_at = 0;

CREATE TABLE job_stage (
  entry_id TEXT NOT NULL CONSTRAINT job_stage_entry_id_fkey REFERENCES job_entry (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (entry_id, name)
);

CREATE TABLE job_log (
  entry_id TEXT NOT NULL CONSTRAINT job_log_entry_id_fkey REFERENCES job_entry (id) ON DELETE CASCADE,
  seq BIGINT NOT NULL,
  at BIGINT NOT NULL,
  level TEXT NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (entry_id, seq)
);

CREATE TABLE job_lane (
  lane TEXT NOT NULL PRIMARY KEY,
  slots BIGINT NOT NULL DEFAULT 0,
  paused BOOLEAN NOT NULL DEFAULT FALSE,
  claims BIGINT NOT NULL DEFAULT 0,
  served DOUBLE PRECISION NOT NULL DEFAULT 0
);

CREATE TABLE job_share (
  lane TEXT NOT NULL,
  tenant_id TEXT NOT NULL,
  weight BIGINT NOT NULL DEFAULT 1 CONSTRAINT job_share_weight_check CHECK (weight > 0),
  cap BIGINT NOT NULL DEFAULT 0,
  used DOUBLE PRECISION NOT NULL DEFAULT 0,
  PRIMARY KEY (lane, tenant_id)
);

CREATE TABLE job_worker (
  node TEXT NOT NULL,
  lane TEXT NOT NULL,
  slots BIGINT NOT NULL,
  kinds TEXT NOT NULL,
  seen_at BIGINT NOT NULL,
  PRIMARY KEY (node, lane)
);

CREATE TABLE job_schedule (
  name TEXT NOT NULL PRIMARY KEY,
  spec TEXT NOT NULL,
  kind TEXT NOT NULL,
  payload TEXT NOT NULL,
  next_at BIGINT NOT NULL,
  paused BOOLEAN NOT NULL DEFAULT FALSE
);
