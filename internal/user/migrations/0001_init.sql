-- +goose Up
CREATE TABLE user_tenant (
    id          TEXT NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    status      TEXT NOT NULL CONSTRAINT user_tenant_status_check CHECK (status IN ('active', 'suspended')),
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    rev         BIGINT NOT NULL
);

-- A person. Belongs to no tenant: user_member gives a role in one.
CREATE TABLE user_user (
    id            TEXT NOT NULL PRIMARY KEY,
    username      TEXT NOT NULL,
    username_key  TEXT NOT NULL CONSTRAINT user_user_username_key_key UNIQUE,
    email         TEXT NOT NULL,
    email_key     TEXT NOT NULL CONSTRAINT user_user_email_key_key UNIQUE,
    status        TEXT NOT NULL CONSTRAINT user_user_status_check CHECK (status IN ('active', 'suspended', 'erased')),
    password      TEXT NOT NULL,
    password_at   BIGINT NOT NULL,
    profile       TEXT NOT NULL,
    locale        TEXT NOT NULL,
    last_login_at BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    rev           BIGINT NOT NULL
);

CREATE TABLE user_member (
    tenant_id   TEXT NOT NULL CONSTRAINT user_member_tenant_id_fkey REFERENCES user_tenant (id),
    user_id     TEXT NOT NULL CONSTRAINT user_member_user_id_fkey REFERENCES user_user (id),
    role        TEXT NOT NULL CONSTRAINT user_member_role_check CHECK (role IN ('owner', 'admin', 'developer', 'viewer')),
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX user_member_user_id_idx ON user_member (user_id, created_at);

-- version is the value of the change counter at the last change that concerns the session's rights.
CREATE TABLE user_session (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL CONSTRAINT user_session_tenant_id_fkey REFERENCES user_tenant (id),
    user_id     TEXT NOT NULL CONSTRAINT user_session_user_id_fkey REFERENCES user_user (id),
    ip          TEXT NOT NULL,
    ua          TEXT NOT NULL,
    remember    BOOLEAN NOT NULL,
    auth_at     BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    ends_at     BIGINT NOT NULL,
    revoked_at  BIGINT NOT NULL,
    reason      TEXT NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX user_session_tenant_id_user_id_idx ON user_session (tenant_id, user_id, id);
CREATE INDEX user_session_user_id_idx ON user_session (user_id);
CREATE INDEX user_session_version_idx ON user_session (version);
CREATE INDEX user_session_expires_at_idx ON user_session (expires_at);

CREATE TABLE user_refresh (
    hash        TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    session_id  TEXT NOT NULL CONSTRAINT user_refresh_session_id_fkey REFERENCES user_session (id) ON DELETE CASCADE,
    issued_at   BIGINT NOT NULL,
    used_at     BIGINT NOT NULL
);
CREATE INDEX user_refresh_session_id_idx ON user_refresh (session_id, issued_at);

-- One-time tokens by hash.
CREATE TABLE user_token (
    hash        TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    kind        TEXT NOT NULL CONSTRAINT user_token_kind_check CHECK (kind IN ('ticket')),
    user_id     TEXT NOT NULL,
    data        TEXT NOT NULL,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT NOT NULL
);
CREATE INDEX user_token_expires_at_idx ON user_token (expires_at);

CREATE TABLE user_key (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant_id    TEXT NOT NULL CONSTRAINT user_key_tenant_id_fkey REFERENCES user_tenant (id),
    user_id      TEXT NOT NULL CONSTRAINT user_key_user_id_fkey REFERENCES user_user (id),
    name         TEXT NOT NULL,
    hash         TEXT NOT NULL CONSTRAINT user_key_hash_key UNIQUE,
    prefix       TEXT NOT NULL,
    last4        TEXT NOT NULL,
    models       TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    expires_at   BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    revoked_at   BIGINT NOT NULL,
    deleted_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    rev          BIGINT NOT NULL
);
CREATE INDEX user_key_tenant_id_created_at_idx ON user_key (tenant_id, created_at, id);
CREATE INDEX user_key_user_id_idx ON user_key (user_id);
CREATE INDEX user_key_version_idx ON user_key (version);

CREATE TABLE user_signing_key (
    kid            TEXT NOT NULL PRIMARY KEY,
    public         TEXT NOT NULL,
    private_sealed TEXT NOT NULL,
    state          TEXT NOT NULL CONSTRAINT user_signing_key_state_check CHECK (state IN ('next', 'active', 'retired')),
    not_before     BIGINT NOT NULL,
    retire_at      BIGINT NOT NULL
);

-- The change counter (name 'rights') and the mark that set-up was done (name 'setup'). The counter's row lock orders the versions as the commits.
CREATE TABLE user_change (
    name  TEXT NOT NULL PRIMARY KEY,
    n     BIGINT NOT NULL
);
INSERT INTO user_change (name, n) VALUES ('rights', 1), ('signing', 1);

-- One row per model call. day = days since 1970 of the time inside the request id, so that the key stays unique under partitioning.
CREATE TABLE user_usage (
    day               BIGINT NOT NULL,
    request_id        TEXT NOT NULL,
    at                BIGINT NOT NULL,
    tenant_id         TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    key_id            TEXT NOT NULL,
    op                TEXT NOT NULL,
    model             TEXT NOT NULL,
    deployment_id     TEXT NOT NULL,
    replica_id        TEXT NOT NULL,
    stream            BOOLEAN NOT NULL,
    status            BIGINT NOT NULL,
    ended             TEXT NOT NULL,
    source            TEXT NOT NULL,
    attempts          BIGINT NOT NULL,
    in_fresh          BIGINT NOT NULL,
    in_cache          BIGINT NOT NULL,
    out_text          BIGINT NOT NULL,
    out_reasoning     BIGINT NOT NULL,
    ttft_ms           BIGINT NOT NULL,
    duration_ms       BIGINT NOT NULL,
    client_request_id TEXT NOT NULL,
    PRIMARY KEY (day, request_id)
);
CREATE INDEX user_usage_tenant_id_at_idx ON user_usage (tenant_id, at, request_id);
CREATE INDEX user_usage_tenant_id_user_id_at_idx ON user_usage (tenant_id, user_id, at, request_id);

CREATE TABLE user_usage_batch (
    node        TEXT NOT NULL,
    epoch       BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    rows_count  BIGINT NOT NULL,
    sha256      TEXT NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (node, epoch, seq)
);
