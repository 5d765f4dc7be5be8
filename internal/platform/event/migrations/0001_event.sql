-- +goose Up
CREATE TABLE event_outbox (
  id TEXT NOT NULL PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  topic TEXT NOT NULL,
  key TEXT NOT NULL,
  data TEXT NOT NULL,
  at BIGINT NOT NULL,
  sent_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX event_outbox_topic_id_idx ON event_outbox (topic, id) WHERE sent_at = 0;
CREATE INDEX event_outbox_sent_at_idx ON event_outbox (sent_at) WHERE sent_at > 0;

CREATE TABLE event_inbox (
  grp TEXT NOT NULL,
  event_id TEXT NOT NULL,
  state TEXT NOT NULL CONSTRAINT event_inbox_state_check CHECK (state IN ('done', 'redeliver')),
  at BIGINT NOT NULL,
  PRIMARY KEY (grp, event_id)
);
CREATE INDEX event_inbox_at_idx ON event_inbox (at);

CREATE TABLE event_group (
  topic TEXT NOT NULL,
  grp TEXT NOT NULL,
  seen_at BIGINT NOT NULL,
  PRIMARY KEY (topic, grp)
);
