-- +goose Up
CREATE TABLE replay_answer (
  tenant_id TEXT NOT NULL,
  caller TEXT NOT NULL,
  key TEXT NOT NULL,
  request TEXT NOT NULL,
  state TEXT NOT NULL CONSTRAINT replay_answer_state_check CHECK (state IN ('running', 'done')),
  holder TEXT NOT NULL,
  status BIGINT NOT NULL DEFAULT 0,
  sealed TEXT NOT NULL DEFAULT '',
  at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, caller, key)
);
CREATE INDEX replay_answer_at_idx ON replay_answer (at);
