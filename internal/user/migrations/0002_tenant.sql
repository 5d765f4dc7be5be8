-- +goose Up
ALTER TABLE user_tenant ADD COLUMN slug TEXT NOT NULL DEFAULT '';
-- IANA name; calendar windows of budgets and statements are counted in it.
ALTER TABLE user_tenant ADD COLUMN timezone TEXT NOT NULL DEFAULT 'UTC';
-- When the purge was asked for; the status is 'suspended' from then on.
ALTER TABLE user_tenant ADD COLUMN purging_at BIGINT NOT NULL DEFAULT 0;
UPDATE user_tenant SET slug = REPLACE(id, '_', '-') WHERE slug = '';
CREATE UNIQUE INDEX user_tenant_slug_key ON user_tenant (slug);
CREATE INDEX user_tenant_created_at_idx ON user_tenant (created_at, id);

-- kind 'service' is an account for programs: it has no password and no address. operator may manage the tenants of the installation.
ALTER TABLE user_user ADD COLUMN kind TEXT NOT NULL DEFAULT 'person' CONSTRAINT user_user_kind_check CHECK (kind IN ('person', 'service'));
ALTER TABLE user_user ADD COLUMN operator BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE user_user SET operator = TRUE WHERE id = (SELECT m.user_id FROM user_member m WHERE m.role = 'owner' ORDER BY m.created_at, m.user_id LIMIT 1);

-- A role is a built-in name or the id of a user_role; a member may be suspended in one tenant and active in another.
-- +maas postgres
ALTER TABLE user_member DROP CONSTRAINT user_member_role_check;
ALTER TABLE user_member ADD COLUMN status TEXT NOT NULL DEFAULT 'active' CONSTRAINT user_member_status_check CHECK (status IN ('active', 'suspended'));
ALTER TABLE user_member ADD COLUMN chosen_at BIGINT NOT NULL DEFAULT 0;
-- +maas end
-- +maas sqlite
CREATE TABLE user_member_new (
    tenant_id   TEXT NOT NULL CONSTRAINT user_member_tenant_id_fkey REFERENCES user_tenant (id),
    user_id     TEXT NOT NULL CONSTRAINT user_member_user_id_fkey REFERENCES user_user (id),
    role        TEXT NOT NULL,
    status      TEXT NOT NULL DEFAULT 'active' CONSTRAINT user_member_status_check CHECK (status IN ('active', 'suspended')),
    chosen_at   BIGINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
INSERT INTO user_member_new (tenant_id, user_id, role, created_at, updated_at) SELECT tenant_id, user_id, role, created_at, updated_at FROM user_member;
DROP TABLE user_member;
ALTER TABLE user_member_new RENAME TO user_member;
CREATE INDEX user_member_user_id_idx ON user_member (user_id, created_at);
-- +maas end
UPDATE user_member SET status = 'suspended' WHERE user_id IN (SELECT u.id FROM user_user u WHERE u.status = 'suspended');
UPDATE user_user SET status = 'active' WHERE status = 'suspended';

CREATE TABLE user_role (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL CONSTRAINT user_role_tenant_id_fkey REFERENCES user_tenant (id),
    name        TEXT NOT NULL,
    name_key    TEXT NOT NULL,
    description TEXT NOT NULL,
    permissions TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    rev         BIGINT NOT NULL,
    CONSTRAINT user_role_tenant_id_name_key_key UNIQUE (tenant_id, name_key)
);

-- A role or one permission for one account, on one object; object_kind '' = on the whole tenant.
CREATE TABLE user_grant (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL CONSTRAINT user_grant_tenant_id_fkey REFERENCES user_tenant (id),
    user_id     TEXT NOT NULL CONSTRAINT user_grant_user_id_fkey REFERENCES user_user (id),
    role        TEXT NOT NULL,
    permission  TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id   TEXT NOT NULL,
    expires_at  BIGINT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    CONSTRAINT user_grant_tenant_id_user_id_what_key UNIQUE (tenant_id, user_id, role, permission, object_kind, object_id)
);
CREATE INDEX user_grant_user_id_idx ON user_grant (user_id);
CREATE INDEX user_grant_tenant_id_created_at_idx ON user_grant (tenant_id, created_at, id);

CREATE TABLE user_project (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL CONSTRAINT user_project_tenant_id_fkey REFERENCES user_tenant (id),
    slug        TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    status      TEXT NOT NULL CONSTRAINT user_project_status_check CHECK (status IN ('active', 'archived')),
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    rev         BIGINT NOT NULL,
    CONSTRAINT user_project_tenant_id_slug_key UNIQUE (tenant_id, slug)
);
CREATE INDEX user_project_tenant_id_created_at_idx ON user_project (tenant_id, created_at, id);

CREATE TABLE user_project_member (
    tenant_id   TEXT NOT NULL,
    project_id  TEXT NOT NULL CONSTRAINT user_project_member_project_id_fkey REFERENCES user_project (id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL CONSTRAINT user_project_member_user_id_fkey REFERENCES user_user (id),
    role        TEXT NOT NULL CONSTRAINT user_project_member_role_check CHECK (role IN ('lead', 'member')),
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, user_id)
);
CREATE INDEX user_project_member_project_id_idx ON user_project_member (project_id);
CREATE INDEX user_project_member_user_id_idx ON user_project_member (user_id);

-- projects is a JSON list of project ids that come with the membership. hash is that of the token.
CREATE TABLE user_invitation (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL CONSTRAINT user_invitation_tenant_id_fkey REFERENCES user_tenant (id),
    email       TEXT NOT NULL,
    email_key   TEXT NOT NULL,
    role        TEXT NOT NULL,
    projects    TEXT NOT NULL,
    hash        TEXT NOT NULL CONSTRAINT user_invitation_hash_key UNIQUE,
    state       TEXT NOT NULL CONSTRAINT user_invitation_state_check CHECK (state IN ('pending', 'accepted', 'revoked')),
    invited_by  TEXT NOT NULL,
    accepted_by TEXT NOT NULL,
    mailed      BOOLEAN NOT NULL,
    expires_at  BIGINT NOT NULL,
    accepted_at BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    rev         BIGINT NOT NULL
);
CREATE INDEX user_invitation_tenant_id_created_at_idx ON user_invitation (tenant_id, created_at, id);
CREATE INDEX user_invitation_tenant_id_email_key_idx ON user_invitation (tenant_id, email_key);

-- What a service account has beside its row in user_user, which has the same id.
CREATE TABLE user_service (
    id          TEXT NOT NULL PRIMARY KEY CONSTRAINT user_service_id_fkey REFERENCES user_user (id),
    tenant_id   TEXT NOT NULL CONSTRAINT user_service_tenant_id_fkey REFERENCES user_tenant (id),
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    project_id  TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    rev         BIGINT NOT NULL
);
CREATE INDEX user_service_tenant_id_created_at_idx ON user_service (tenant_id, created_at, id);

ALTER TABLE user_key ADD COLUMN project_id TEXT NOT NULL DEFAULT '';
ALTER TABLE user_key ADD COLUMN ip_allow TEXT NOT NULL DEFAULT '[]';
ALTER TABLE user_key ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE user_key ADD COLUMN strict BOOLEAN NOT NULL DEFAULT FALSE;

-- Secrets of a key from before its rotations, with the end of their overlap.
CREATE TABLE user_key_secret (
    hash        TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    key_id      TEXT NOT NULL CONSTRAINT user_key_secret_key_id_fkey REFERENCES user_key (id),
    until       BIGINT NOT NULL
);
CREATE INDEX user_key_secret_key_id_idx ON user_key_secret (key_id);
CREATE INDEX user_key_secret_until_idx ON user_key_secret (until);
