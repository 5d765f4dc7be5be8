-- +goose Up
-- What calls of a model cost, as versions that are never changed: one holds from its valid_from until the next of the same tenant, provider and model begins. tenant_id '' = for every tenant without a price of
-- its own; model '*' = every model without a price of its own; provider '' = what tenants pay, else what the provider takes from us. Prices of tokens are micro-units per million tokens.
CREATE TABLE user_price (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant_id    TEXT NOT NULL,
    provider     TEXT NOT NULL,
    model        TEXT NOT NULL,
    currency     TEXT NOT NULL,
    input        BIGINT NOT NULL CONSTRAINT user_price_input_check CHECK (input >= 0),
    cached_input BIGINT NOT NULL CONSTRAINT user_price_cached_input_check CHECK (cached_input >= 0),
    output       BIGINT NOT NULL CONSTRAINT user_price_output_check CHECK (output >= 0),
    reasoning    BIGINT NOT NULL CONSTRAINT user_price_reasoning_check CHECK (reasoning >= 0),
    request      BIGINT NOT NULL CONSTRAINT user_price_request_check CHECK (request >= 0),
    valid_from   BIGINT NOT NULL,
    note         TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    CONSTRAINT user_price_tenant_id_provider_model_valid_from_key UNIQUE (tenant_id, provider, model, valid_from)
);
CREATE INDEX user_price_version_idx ON user_price (version);

-- One of each kind per tenant. balance is the sum of the account's entries; leased is what nodes hold in advance; credit and mode belong to wallets; carry_pico is the priced part below one micro-unit that is not
-- posted yet.
CREATE TABLE user_account (
    id            TEXT NOT NULL PRIMARY KEY,
    tenant_id     TEXT NOT NULL,
    kind          TEXT NOT NULL CONSTRAINT user_account_kind_check CHECK (kind IN ('wallet', 'revenue', 'cash', 'writeoff')),
    currency      TEXT NOT NULL,
    mode          TEXT NOT NULL CONSTRAINT user_account_mode_check CHECK (mode IN ('postpaid', 'prepaid')),
    balance_micro BIGINT NOT NULL,
    leased_micro  BIGINT NOT NULL CONSTRAINT user_account_leased_micro_check CHECK (leased_micro >= 0),
    credit_micro  BIGINT NOT NULL CONSTRAINT user_account_credit_micro_check CHECK (credit_micro >= 0),
    carry_pico    BIGINT NOT NULL CONSTRAINT user_account_carry_pico_check CHECK (carry_pico >= 0 AND carry_pico < 1000000),
    version       BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    rev           BIGINT NOT NULL,
    CONSTRAINT user_account_tenant_id_kind_key UNIQUE (tenant_id, kind)
);
CREATE INDEX user_account_version_idx ON user_account (version);

-- Append only. ref makes a posting happen once.
CREATE TABLE user_journal (
    id         TEXT NOT NULL PRIMARY KEY,
    tenant_id  TEXT NOT NULL,
    kind       TEXT NOT NULL CONSTRAINT user_journal_kind_check CHECK (kind IN ('usage', 'topup', 'refund', 'payout', 'adjust')),
    ref        TEXT NOT NULL,
    note       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    at         BIGINT NOT NULL,
    CONSTRAINT user_journal_tenant_id_kind_ref_key UNIQUE (tenant_id, kind, ref)
);
CREATE INDEX user_journal_tenant_id_at_idx ON user_journal (tenant_id, at, id);

CREATE TABLE user_entry (
    journal_id   TEXT NOT NULL CONSTRAINT user_entry_journal_id_fkey REFERENCES user_journal (id),
    no           BIGINT NOT NULL,
    tenant_id    TEXT NOT NULL,
    account_id   TEXT NOT NULL CONSTRAINT user_entry_account_id_fkey REFERENCES user_account (id),
    amount_micro BIGINT NOT NULL CONSTRAINT user_entry_amount_micro_check CHECK (amount_micro <> 0),
    PRIMARY KEY (journal_id, no)
);
CREATE INDEX user_entry_account_id_idx ON user_entry (account_id, journal_id);

-- win is the calendar window. extra adds to the limit until extra_until.
CREATE TABLE user_budget (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant_id    TEXT NOT NULL,
    subject_kind TEXT NOT NULL CONSTRAINT user_budget_subject_kind_check CHECK (subject_kind IN ('tenant', 'project', 'user', 'key')),
    subject_id   TEXT NOT NULL,
    name         TEXT NOT NULL,
    unit         TEXT NOT NULL CONSTRAINT user_budget_unit_check CHECK (unit IN ('money', 'tokens', 'requests')),
    most         BIGINT NOT NULL CONSTRAINT user_budget_most_check CHECK (most >= 0),
    win          TEXT NOT NULL CONSTRAINT user_budget_win_check CHECK (win IN ('day', 'week', 'month', 'total')),
    hard         BOOLEAN NOT NULL,
    extra        BIGINT NOT NULL CONSTRAINT user_budget_extra_check CHECK (extra >= 0),
    extra_until  BIGINT NOT NULL,
    extra_reason TEXT NOT NULL,
    extra_by     TEXT NOT NULL,
    deleted_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    rev          BIGINT NOT NULL
);
CREATE INDEX user_budget_tenant_id_created_at_idx ON user_budget (tenant_id, created_at, id);
CREATE INDEX user_budget_tenant_id_subject_id_idx ON user_budget (tenant_id, subject_id);
CREATE INDEX user_budget_version_idx ON user_budget (version);

-- used is what the usage rows of the period add up to (micro-units for money, the rest in carry_pico); told is the highest share in percent that was announced.
CREATE TABLE user_budget_period (
    budget_id  TEXT NOT NULL CONSTRAINT user_budget_period_budget_id_fkey REFERENCES user_budget (id),
    starts_at  BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL,
    tenant_id  TEXT NOT NULL,
    used       BIGINT NOT NULL CONSTRAINT user_budget_period_used_check CHECK (used >= 0),
    leased     BIGINT NOT NULL CONSTRAINT user_budget_period_leased_check CHECK (leased >= 0),
    carry_pico BIGINT NOT NULL CONSTRAINT user_budget_period_carry_pico_check CHECK (carry_pico >= 0 AND carry_pico < 1000000),
    told       BIGINT NOT NULL,
    PRIMARY KEY (budget_id, starts_at)
);

-- A piece of a wallet or budget that a node may spend without asking. amount is what is still held for it besides what was booked: granted = amount + booked + given back.
CREATE TABLE user_lease (
    id         TEXT NOT NULL PRIMARY KEY,
    tenant_id  TEXT NOT NULL,
    node       TEXT NOT NULL,
    ask_id     TEXT NOT NULL,
    epoch      BIGINT NOT NULL,
    target     TEXT NOT NULL,
    starts_at  BIGINT NOT NULL,
    granted    BIGINT NOT NULL,
    amount     BIGINT NOT NULL CONSTRAINT user_lease_amount_check CHECK (amount >= 0),
    state      TEXT NOT NULL CONSTRAINT user_lease_state_check CHECK (state IN ('open', 'returned', 'lost', 'closed')),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT user_lease_node_ask_id_key UNIQUE (node, ask_id)
);
CREATE INDEX user_lease_target_state_idx ON user_lease (target, state, node, created_at);
CREATE INDEX user_lease_state_expires_at_idx ON user_lease (state, expires_at);

ALTER TABLE user_usage ADD COLUMN project_id TEXT NOT NULL DEFAULT '';
ALTER TABLE user_usage ADD COLUMN provider_id TEXT NOT NULL DEFAULT '';
ALTER TABLE user_usage ADD COLUMN price_version TEXT NOT NULL DEFAULT '';
ALTER TABLE user_usage ADD COLUMN price_pico BIGINT NOT NULL DEFAULT 0;
ALTER TABLE user_usage ADD COLUMN cost_pico BIGINT NOT NULL DEFAULT 0;

-- customer, seller and lines are JSON: an invoice says for ever what it said when it was made.
CREATE TABLE user_invoice (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant_id    TEXT NOT NULL,
    month        TEXT NOT NULL,
    number       TEXT NOT NULL,
    state        TEXT NOT NULL CONSTRAINT user_invoice_state_check CHECK (state IN ('draft', 'issued', 'void')),
    currency     TEXT NOT NULL,
    net_micro    BIGINT NOT NULL,
    tax_micro    BIGINT NOT NULL,
    total_micro  BIGINT NOT NULL,
    customer     TEXT NOT NULL,
    seller       TEXT NOT NULL,
    body         TEXT NOT NULL,
    void_reason  TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    issued_at    BIGINT NOT NULL,
    voided_at    BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    rev          BIGINT NOT NULL
);
CREATE INDEX user_invoice_tenant_id_created_at_idx ON user_invoice (tenant_id, created_at, id);
CREATE UNIQUE INDEX user_invoice_tenant_id_month_key ON user_invoice (tenant_id, month) WHERE state <> 'void';
CREATE UNIQUE INDEX user_invoice_number_key ON user_invoice (number) WHERE number <> '';

-- The last invoice number of each year.
CREATE TABLE user_invoice_number (
    year  BIGINT NOT NULL PRIMARY KEY,
    last  BIGINT NOT NULL
);
