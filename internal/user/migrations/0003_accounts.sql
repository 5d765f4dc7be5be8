-- +goose Up
-- verified_at: the address was proven by a mail. pending: why a person who registered cannot sign in yet; such rows have status 'suspended', so that whoever asks for 'active' refuses them.
ALTER TABLE user_user ADD COLUMN verified_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE user_user ADD COLUMN pending TEXT NOT NULL DEFAULT '' CONSTRAINT user_user_pending_check CHECK (pending IN ('', 'verification', 'approval'));

-- How the person proved who they are, RFC 8176 names separated by spaces.
ALTER TABLE user_session ADD COLUMN methods TEXT NOT NULL DEFAULT 'pwd';

-- One-time tokens by hash, with more kinds; nothing that lives for 30 seconds is worth copying. tries counts wrong answers to a sign-in that waits for its second factor.
DROP TABLE user_token;
CREATE TABLE user_token (
    hash        TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    kind        TEXT NOT NULL CONSTRAINT user_token_kind_check CHECK (kind IN ('ticket', 'verify', 'reset', 'mfa', 'passkey', 'login')),
    user_id     TEXT NOT NULL,
    data        TEXT NOT NULL,
    tries       BIGINT NOT NULL DEFAULT 0,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT NOT NULL
);
CREATE INDEX user_token_expires_at_idx ON user_token (expires_at);
CREATE INDEX user_token_user_id_idx ON user_token (user_id, kind);

-- An account at a provider that signs a person in.
CREATE TABLE user_identity (
    id          TEXT NOT NULL PRIMARY KEY,
    user_id     TEXT NOT NULL CONSTRAINT user_identity_user_id_fkey REFERENCES user_user (id),
    provider    TEXT NOT NULL,
    issuer      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    email       TEXT NOT NULL,
    name        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    used_at     BIGINT NOT NULL,
    CONSTRAINT user_identity_provider_issuer_subject_key UNIQUE (provider, issuer, subject)
);
CREATE INDEX user_identity_user_id_idx ON user_identity (user_id, created_at);

-- The secret of an authenticator app. confirmed_at 0 = set up but not proven; last_step: the last time step whose code was used.
CREATE TABLE user_totp (
    user_id       TEXT NOT NULL PRIMARY KEY CONSTRAINT user_totp_user_id_fkey REFERENCES user_user (id),
    secret_sealed TEXT NOT NULL,
    confirmed_at  BIGINT NOT NULL,
    last_step     BIGINT NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE user_recovery (
    hash     TEXT NOT NULL PRIMARY KEY,
    user_id  TEXT NOT NULL CONSTRAINT user_recovery_user_id_fkey REFERENCES user_user (id),
    used_at  BIGINT NOT NULL
);
CREATE INDEX user_recovery_user_id_idx ON user_recovery (user_id);

-- data is the credential record of WebAuthn as JSON: public key, counters, flags.
CREATE TABLE user_passkey (
    id             TEXT NOT NULL PRIMARY KEY,
    user_id        TEXT NOT NULL CONSTRAINT user_passkey_user_id_fkey REFERENCES user_user (id),
    credential_id  TEXT NOT NULL CONSTRAINT user_passkey_credential_id_key UNIQUE,
    name           TEXT NOT NULL,
    data           TEXT NOT NULL,
    sign_count     BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    used_at        BIGINT NOT NULL
);
CREATE INDEX user_passkey_user_id_idx ON user_passkey (user_id, created_at);
