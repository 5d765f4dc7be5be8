package user

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/id"
	"maas/internal/user/ledger"
)

// bookAccount is a row of user_account.
type bookAccount struct {
	id, tenant, currency, mode     string
	kind                           ledger.AccountKind
	balance, leased, credit, carry int64
	createdAt, updatedAt           time.Time
	rev                            int64
}

const accountCols = `id, tenant_id, kind, currency, mode, balance_micro, leased_micro, credit_micro, carry_pico, created_at, updated_at, rev`

func scanAccount(r db.Row) (bookAccount, error) {
	var a bookAccount
	var created, updated int64
	err := r.Scan(&a.id, &a.tenant, &a.kind, &a.currency, &a.mode, &a.balance, &a.leased, &a.credit, &a.carry, &created, &updated, &a.rev)
	a.createdAt, a.updatedAt = db.FromMicro(created), db.FromMicro(updated)
	return a, err
}

// walletPrefix begins the ids of wallets, budgetPrefix those of budgets: a lease's target says by it what it is.
const (
	walletPrefix  = "wal"
	accountPrefix = "acc"
	budgetPrefix  = "bud"
)

// openAccount makes an account of a tenant unless it is there.
func openAccount(ctx context.Context, tx *db.Tx, tenant string, kind ledger.AccountKind, currency string, now time.Time) error {
	prefix := accountPrefix
	if kind == ledger.Wallet {
		prefix = walletPrefix
	}
	_, err := tx.Exec(ctx, `INSERT INTO user_account (id, tenant_id, kind, currency, mode, balance_micro, leased_micro, credit_micro, carry_pico, version, created_at, updated_at, rev)
		VALUES ($1, $2, $3, $4, 'postpaid', 0, 0, 0, 0, 0, $5, $5, 1) ON CONFLICT (tenant_id, kind) DO NOTHING`, id.New(prefix), tenant, string(kind), currency, db.Micro(now))
	return err
}

// lockWallet orders all that changes a tenant's money: batches of usage, postings, new budgets. It makes the wallet where there is none.
func lockWallet(ctx context.Context, tx *db.Tx, tenant, currency string, now time.Time) (bookAccount, error) {
	lock := func() (bookAccount, error) {
		return db.One(ctx, tx, scanAccount, `UPDATE user_account SET updated_at = $2 WHERE tenant_id = $1 AND kind = 'wallet' RETURNING `+accountCols, tenant, db.Micro(now))
	}
	a, err := lock()
	if !errors.Is(err, db.ErrNoRow) {
		return a, err
	}
	if err := openAccount(ctx, tx, tenant, ledger.Wallet, currency, now); err != nil {
		return a, err
	}
	return lock()
}

func accountOf(ctx context.Context, q db.Querier, tenant string, kind ledger.AccountKind) (bookAccount, error) {
	return db.One(ctx, q, scanAccount, `SELECT `+accountCols+` FROM user_account WHERE tenant_id = $1 AND kind = $2`, tenant, string(kind))
}

func accountByID(ctx context.Context, q db.Querier, aid string) (bookAccount, error) {
	return db.One(ctx, q, scanAccount, `SELECT `+accountCols+` FROM user_account WHERE id = $1`, aid)
}

// walletsSince lists wallets whose mode changed after a version.
func walletsSince(ctx context.Context, q db.Querier, since int64) ([]WalletGrant, error) {
	return db.List(ctx, q, func(r db.Row) (WalletGrant, error) {
		var a bookAccount
		err := r.Scan(&a.tenant, &a.id, &a.mode, &a.credit)
		return WalletGrant{TenantID: a.tenant, ID: a.id, Limited: a.limited()}, err
	}, `SELECT tenant_id, id, mode, credit_micro FROM user_account WHERE kind = 'wallet' AND version > $1 ORDER BY version, id`, since)
}

// limited reports whether the wallet may refuse: a postpaid one without a ceiling never does.
func (a bookAccount) limited() bool { return a.mode == Prepaid || a.credit > 0 }

func setWallet(ctx context.Context, tx *db.Tx, w bookAccount, version int64, now time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE user_account SET mode = $3, credit_micro = $4, version = $5, updated_at = $6, rev = rev + 1 WHERE id = $1 AND rev = $2`, w.id, w.rev, w.mode, w.credit, version, db.Micro(now))
	return db.Guard(n, err, ErrStaleWallet)
}

// posting is a journal with its entries.
type posting struct {
	id, tenant, ref, note, by string
	kind                      ledger.JournalKind
	amount                    int64
	at                        time.Time
}

// post writes a journal and its two entries and changes both balances: ErrPosted if this reference was posted before. The tenant's wallet must be locked.
func post(ctx context.Context, tx *db.Tx, p posting, currency string) error {
	entries, ok := ledger.Entries(p.kind, p.amount)
	if !ok {
		return ErrAmount
	}
	n, err := tx.Exec(ctx, `INSERT INTO user_journal (id, tenant_id, kind, ref, note, created_by, at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, kind, ref) DO NOTHING`,
		p.id, p.tenant, string(p.kind), p.ref, p.note, p.by, db.Micro(p.at))
	if err := db.Guard(n, err, ErrPosted); err != nil {
		return err
	}
	for no, e := range entries {
		aid, err := addBalance(ctx, tx, p.tenant, e, p.at)
		if errors.Is(err, db.ErrNoRow) {
			if err = openAccount(ctx, tx, p.tenant, e.Account, currency, p.at); err == nil {
				aid, err = addBalance(ctx, tx, p.tenant, e, p.at)
			}
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO user_entry (journal_id, no, tenant_id, account_id, amount_micro) VALUES ($1, $2, $3, $4, $5)`, p.id, no+1, p.tenant, aid, e.Amount); err != nil {
			return err
		}
	}
	return nil
}

func addBalance(ctx context.Context, tx *db.Tx, tenant string, e ledger.Entry, now time.Time) (string, error) {
	return db.One(ctx, tx, db.Scalar[string], `UPDATE user_account SET balance_micro = balance_micro + $3, updated_at = $4, rev = rev + 1 WHERE tenant_id = $1 AND kind = $2 RETURNING id`,
		tenant, string(e.Account), e.Amount, db.Micro(now))
}

func setCarry(ctx context.Context, tx *db.Tx, aid string, carry int64) error {
	_, err := tx.Exec(ctx, `UPDATE user_account SET carry_pico = $2 WHERE id = $1`, aid, carry)
	return err
}

// drain takes what was booked out of what the node's leases hold, oldest first, and returns how much that was. start is the period of a budget, 0 for wallets.
func drain(ctx context.Context, tx *db.Tx, node, target string, start, booked int64) (int64, error) {
	type held struct {
		id     string
		amount int64
		open   bool
	}
	list, err := db.List(ctx, tx, func(r db.Row) (h held, err error) { return h, r.Scan(&h.id, &h.amount, &h.open) },
		`SELECT id, amount, state = 'open' FROM user_lease WHERE target = $1 AND state IN ('open', 'returned', 'lost') AND node = $2 AND starts_at = $3 AND amount > 0 ORDER BY created_at, id LIMIT 500`, target, node, start)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, h := range list {
		n := min(booked-sum, h.amount)
		if n <= 0 {
			break
		}
		// An open lease stays open when it is empty: the node has it in hand until it returns it.
		if _, err := tx.Exec(ctx, `UPDATE user_lease SET amount = amount - $2, state = CASE WHEN amount = $2 AND state <> 'open' THEN 'closed' ELSE state END WHERE id = $1`, h.id, n); err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func addLeased(ctx context.Context, tx *db.Tx, wallet string, n int64) error {
	_, err := tx.Exec(ctx, `UPDATE user_account SET leased_micro = leased_micro + $2 WHERE id = $1`, wallet, n)
	return err
}

func addPeriodLeased(ctx context.Context, tx *db.Tx, budget string, start, n int64) error {
	_, err := tx.Exec(ctx, `UPDATE user_budget_period SET leased = leased + $3 WHERE budget_id = $1 AND starts_at = $2`, budget, start, n)
	return err
}
