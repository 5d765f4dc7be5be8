package user

import (
	"context"
	"errors"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
	"maas/internal/user/ledger"
)

// The errors of wallets and postings.
var (
	ErrWalletNotFound  = fault.New(fault.NotFound, "user.wallet_not_found", "there is no such wallet")
	ErrStaleWallet     = fault.New(fault.Conflict, "user.wallet_stale", "the wallet was changed by someone else meanwhile").WithHint("Load it again, then repeat the change")
	ErrPosted          = fault.New(fault.Conflict, "user.posted", "this reference was posted before").WithHint("Each reference is posted once; look at the journals")
	ErrPostingFields   = fault.New(fault.Invalid, "user.posting_invalid", "some fields of the posting are wrong")
	ErrBalance         = fault.New(fault.Conflict, "user.balance", "the wallet holds less than that")
	ErrJournalNotFound = fault.New(fault.NotFound, "user.journal_not_found", "there is no such journal")
)

// The modes of a wallet.
const (
	Postpaid = "postpaid" // calls are booked and paid later; with a credit above 0 that is the ceiling of the debt
	Prepaid  = "prepaid"  // calls are refused when balance and credit are used up
)

const postingMost = 1 << 53 // micro-units: what every JSON reader holds exactly

// Wallet is what an organisation has to spend, or owes.
type Wallet struct {
	ID           string    `json:"id"`
	TenantID     string    `json:"tenant_id"`
	Currency     string    `json:"currency"`
	Mode         string    `json:"mode" enum:"postpaid,prepaid"`
	BalanceMicro int64     `json:"balance_micro" doc:"Below zero: owed"`
	LeasedMicro  int64     `json:"leased_micro" doc:"Held by nodes for calls under way"`
	CreditMicro  int64     `json:"credit_micro" doc:"How far below zero the balance may go; 0 of a postpaid wallet: without a ceiling"`
	Limited      bool      `json:"limited" doc:"Calls are refused when it is used up"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	Rev          int64     `json:"rev"`
}

func (a bookAccount) wallet() Wallet {
	return Wallet{a.id, a.tenant, a.currency, a.mode, a.balance, a.leased, a.credit, a.limited(), a.createdAt, a.updatedAt, a.rev}
}

// tenantZone is the time zone of a tenant: ErrTenantNotFound.
func tenantZone(ctx context.Context, q db.Querier, tenant string) (*time.Location, error) {
	zone, err := db.One(ctx, q, db.Scalar[string], `SELECT timezone FROM user_tenant WHERE id = $1`, tenant)
	if isNoRow(err) {
		return nil, ErrTenantNotFound
	}
	return location(zone), err
}

// billed is the tenant that a route of money is about: the caller's, or for operators the one they name.
func billedTenant(ctx context.Context, named string) (string, error) {
	who, _ := auth.From(ctx)
	if named == "" || named == who.TenantID {
		return who.TenantID, nil
	}
	if !who.May("billing:operate") {
		return "", ErrTenantNotFound
	}
	return named, nil
}

// Wallet returns that of the caller's organisation, or for operators of another. It is made when it is first looked at.
func (s *Service) Wallet(ctx context.Context, tenant string) (Wallet, error) {
	tenant, err := billedTenant(ctx, tenant)
	if err != nil {
		return Wallet{}, err
	}
	var a bookAccount
	err = s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		a, err = accountOf(ctx, q, tenant, ledger.Wallet)
		return err
	})
	if isNoRow(err) {
		err = s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tenantZone(ctx, tx, tenant); err != nil {
				return err
			}
			a, err = lockWallet(ctx, tx, tenant, s.currency(), s.Now())
			return err
		})
	}
	return a.wallet(), err
}

// WalletPatch changes how a wallet refuses; nil leaves a part as it is.
type WalletPatch struct {
	Mode        *string `json:"mode,omitempty" enum:"postpaid,prepaid"`
	CreditMicro *int64  `json:"credit_micro,omitempty" minimum:"0"`
}

// SetWallet changes mode and credit of a wallet. Gateways follow within half a second.
func (s *Service) SetWallet(ctx context.Context, tenant string, p WalletPatch, check func(Wallet) error) (Wallet, error) {
	if p.CreditMicro != nil && (*p.CreditMicro < 0 || *p.CreditMicro > postingMost) {
		return Wallet{}, ErrPostingFields.WithFields(fault.Field{Name: "body.credit_micro", Code: "out_of_range", Message: "must be 0 to 9007199254740992 micro-units", Limit: int64(postingMost)})
	}
	tenant, err := billedTenant(ctx, tenant)
	if err != nil {
		return Wallet{}, err
	}
	var a bookAccount
	err = s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tenantZone(ctx, tx, tenant); err != nil {
			return err
		}
		if a, err = lockWallet(ctx, tx, tenant, s.currency(), s.Now()); err != nil {
			return err
		}
		if err := check(a.wallet()); err != nil {
			return err
		}
		if p.Mode != nil {
			a.mode = *p.Mode
		}
		if p.CreditMicro != nil {
			a.credit = *p.CreditMicro
		}
		version, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		if err := setWallet(ctx, tx, a, version, s.Now()); err != nil {
			return err
		}
		a.rev++
		return nil
	})
	return a.wallet(), err
}

// Posting is a change of a wallet by a person.
type Posting struct {
	AmountMicro int64  `json:"amount_micro" doc:"Micro-units of the currency"`
	Reference   string `json:"reference" minLength:"1" maxLength:"200" doc:"Of the payment, invoice or request; posted once per kind"`
	Note        string `json:"note,omitempty" maxLength:"500"`
}

func (p *Posting) validate(kind ledger.JournalKind) error {
	var f []fault.Field
	p.Reference, p.Note = strings.TrimSpace(p.Reference), strings.TrimSpace(p.Note)
	switch {
	case kind != ledger.Adjust && p.AmountMicro <= 0:
		f = append(f, fault.Field{Name: "body.amount_micro", Code: "out_of_range", Message: "must be more than 0"})
	case p.AmountMicro == 0, p.AmountMicro > postingMost, p.AmountMicro < -postingMost:
		f = append(f, fault.Field{Name: "body.amount_micro", Code: "out_of_range", Message: "must not be 0, nor beyond 9007199254740992 micro-units", Limit: int64(postingMost)})
	}
	if p.Reference == "" || len(p.Reference) > 200 || strings.ContainsFunc(p.Reference, func(r rune) bool { return r < ' ' }) {
		f = append(f, fault.Field{Name: "body.reference", Code: "required", Message: "must be one line that names the payment or the reason"})
	}
	if kind == ledger.Adjust && p.Note == "" {
		f = append(f, fault.Field{Name: "body.note", Code: "required", Message: "must say why the balance is corrected"})
	}
	if len(f) > 0 {
		return ErrPostingFields.WithFields(f...)
	}
	return nil
}

// Post changes the balance of a wallet: TopUp pays in, Payout out (ErrBalance if it is not there), Refund gives a charge back, Adjust corrects either way. Once per kind and reference (ErrPosted).
func (s *Service) Post(ctx context.Context, wallet string, kind ledger.JournalKind, p Posting) (Journal, error) {
	if err := p.validate(kind); err != nil {
		return Journal{}, err
	}
	who, _ := auth.From(ctx)
	jid := id.New("jnl")
	err := s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		a, err := accountByID(ctx, tx, wallet)
		if isNoRow(err) || err == nil && a.kind != ledger.Wallet {
			return ErrWalletNotFound.With("there is no wallet %q", wallet)
		}
		if err != nil {
			return err
		}
		if a, err = lockWallet(ctx, tx, a.tenant, a.currency, s.Now()); err != nil {
			return err
		}
		if kind == ledger.Payout && a.balance-a.leased < p.AmountMicro {
			return ErrBalance
		}
		if sum, ok := ledger.Add(a.balance, p.AmountMicro); !ok || sum > 1<<61 || sum < -1<<61 {
			return ErrAmount
		}
		return post(ctx, tx, posting{id: jid, tenant: a.tenant, kind: kind, ref: p.Reference, note: p.Note, by: who.UserID, amount: p.AmountMicro, at: s.Now()}, a.currency)
	})
	if err != nil {
		return Journal{}, err
	}
	return s.journal(ctx, "", jid)
}

// JournalEntry is a change of one account.
type JournalEntry struct {
	AccountID   string             `json:"account_id"`
	Account     ledger.AccountKind `json:"account" enum:"wallet,revenue,cash,writeoff"`
	AmountMicro int64              `json:"amount_micro"`
}

// Journal is one posting: its entries add up to zero.
type Journal struct {
	ID          string             `json:"id"`
	TenantID    string             `json:"tenant_id"`
	Kind        ledger.JournalKind `json:"kind" enum:"usage,topup,refund,payout,adjust"`
	Reference   string             `json:"reference" doc:"Of usage: node/epoch/number of the batch"`
	Note        string             `json:"note,omitempty"`
	CreatedBy   string             `json:"created_by,omitempty"`
	At          time.Time          `json:"at"`
	AmountMicro int64              `json:"amount_micro" doc:"What it did to the wallet"`
	Entries     []JournalEntry     `json:"entries"`
}

// JournalFilter narrows the list of journals.
type JournalFilter struct {
	Tenant, Kind string
	Limit        int
	After        string
}

// Journals lists postings, newest first.
func (s *Service) Journals(ctx context.Context, f JournalFilter) (page.List[Journal], error) {
	tenant, err := billedTenant(ctx, f.Tenant)
	if err != nil {
		return page.List[Journal]{}, err
	}
	limit := page.Limit(f.Limit)
	filter := "journals\x00" + tenant + "\x00" + f.Kind
	at, last, err := cursor(filter, f.After, db.Micro(s.Now().Add(time.Hour)))
	if err != nil {
		return page.List[Journal]{}, err
	}
	var rows []Journal
	err = s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = journalsOf(ctx, q, tenant, f.Kind, at, last, limit+1)
		if err != nil {
			return err
		}
		return withEntries(ctx, q, rows)
	})
	if err != nil {
		return page.List[Journal]{}, err
	}
	return page.Of(rows, limit, filter, func(j Journal) []string { return []string{micros(j.At), j.ID} }), nil
}

// Journal returns one posting of the caller's organisation, for operators of any: ErrJournalNotFound.
func (s *Service) Journal(ctx context.Context, jid string) (Journal, error) {
	who, _ := auth.From(ctx)
	tenant := who.TenantID
	if who.May("billing:operate") {
		tenant = ""
	}
	return s.journal(ctx, tenant, jid)
}

func (s *Service) journal(ctx context.Context, tenant, jid string) (Journal, error) {
	var j Journal
	err := s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		if j, err = journalByID(ctx, q, tenant, jid); err != nil {
			return err
		}
		one := []Journal{j}
		err = withEntries(ctx, q, one)
		j = one[0]
		return err
	})
	if errors.Is(err, db.ErrNoRow) {
		err = ErrJournalNotFound.With("there is no journal %q", jid)
	}
	return j, err
}
