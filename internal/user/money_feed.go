package user

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// PriceVersion is one version of a price, as gateways need it. It never changes.
type PriceVersion struct {
	ID        string    `json:"id"`
	TenantID  string    `json:"tenant_id,omitempty"` // "" = every tenant without one of its own
	Provider  string    `json:"provider,omitempty"`  // "" = what tenants pay; else what the provider takes
	Model     string    `json:"model"`               // public name, or "*"
	ValidFrom time.Time `json:"valid_from"`
	ledger.Price
}

// Counts is what a call used, for PriceVersion.Quote, which answers pico-units.
type Counts = ledger.Counts

// BudgetGrant is a budget of a tenant in the change feed.
type BudgetGrant struct {
	BudgetRef
	TenantID string `json:"tenant_id"`
	Subject  string `json:"subject"` // id of the tenant, project, user or key
	Deleted  bool   `json:"deleted,omitempty"`
}

// BudgetRef is a budget that a call is charged to.
type BudgetRef struct {
	ID   string     `json:"id"`
	Kind string     `json:"kind"` // of its subject: key, user, project, tenant
	Unit meter.Unit `json:"unit"`
	Hard bool       `json:"hard"` // refuses when it is used up; a soft one only tells
}

// WalletGrant says whether the wallet of a tenant may refuse.
type WalletGrant struct {
	TenantID string `json:"tenant_id"`
	ID       string `json:"id"`      // wal_..
	Limited  bool   `json:"limited"` // false: calls are booked on it and never refused
}

// Charge is what the calls of one caller are charged to.
type Charge struct {
	Budgets []BudgetRef // in the order key, user, project, tenant
	Wallet  string      // "" = it never refuses
}

// moneyFeed is this process's view of prices, budgets and wallets. Read without a lock; written by the reader of the change feed alone.
type moneyFeed struct {
	view atomic.Pointer[moneyView]
}

type priceKey struct{ tenant, provider, model string }

type moneyView struct {
	generation uint64
	prices     map[priceKey][]PriceVersion // oldest first
	budgets    map[string][]BudgetRef      // by subject
	wallets    map[string]string           // tenant -> limited wallet
}

var noMoney = &moneyView{}

func (f *moneyFeed) load() *moneyView {
	if v := f.view.Load(); v != nil {
		return v
	}
	return noMoney
}

// apply takes one page of the change feed in. Everything may come twice.
func (f *moneyFeed) apply(c Changes) {
	if len(c.Prices)+len(c.Budgets)+len(c.Wallets) == 0 {
		return
	}
	old := f.load()
	v := &moneyView{generation: old.generation + 1, prices: old.prices, budgets: old.budgets, wallets: old.wallets}
	if len(c.Prices) > 0 {
		v.prices = cloned(old.prices)
		for _, p := range c.Prices {
			k := priceKey{p.TenantID, p.Provider, p.Model}
			list := slices.DeleteFunc(slices.Clone(v.prices[k]), func(o PriceVersion) bool { return o.ID == p.ID })
			list = append(list, p)
			slices.SortFunc(list, func(a, b PriceVersion) int { return a.ValidFrom.Compare(b.ValidFrom) })
			v.prices[k] = list
		}
	}
	if len(c.Budgets) > 0 {
		v.budgets = cloned(old.budgets)
		for _, b := range c.Budgets {
			list := slices.DeleteFunc(slices.Clone(v.budgets[b.Subject]), func(o BudgetRef) bool { return o.ID == b.ID })
			if !b.Deleted {
				list = append(list, b.BudgetRef)
			}
			v.budgets[b.Subject] = list
			if len(list) == 0 {
				delete(v.budgets, b.Subject)
			}
		}
	}
	if len(c.Wallets) > 0 {
		v.wallets = cloned(old.wallets)
		for _, w := range c.Wallets {
			delete(v.wallets, w.TenantID)
			if w.Limited {
				v.wallets[w.TenantID] = w.ID
			}
		}
	}
	f.view.Store(v)
}

func cloned[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}

// price finds the version that holds at a moment: of the tenant before that of all, of the model before that of every model.
func (v *moneyView) price(tenant, provider, model string, at time.Time) (PriceVersion, bool) {
	if len(v.prices) == 0 {
		return PriceVersion{}, false
	}
	for _, k := range [...]priceKey{{tenant, provider, model}, {tenant, provider, "*"}, {"", provider, model}, {"", provider, "*"}} {
		list := v.prices[k]
		for _, p := range slices.Backward(list) {
			if !p.ValidFrom.After(at) {
				return p, true
			}
		}
	}
	return PriceVersion{}, false
}

// Price is what a call of the model costs the tenant at a moment. The zero version (no id, price 0) where no price was set. A call pins it at admission: its id goes into Usage.PriceVersion and Record prices by
// it, whatever the list says by then.
func (v *Verifier) Price(tenant, model string, at time.Time) PriceVersion {
	p, _ := v.money.load().price(tenant, "", model, at)
	return p
}

// Charge is what calls of this caller are charged to, at this moment. It costs up to four map look-ups and allocates only if there are budgets of several subjects; see MoneyGeneration for those who keep it.
func (v *Verifier) Charge(p *auth.Principal) Charge {
	m := v.money.load()
	c := Charge{Wallet: m.wallets[p.TenantID]}
	if len(m.budgets) == 0 {
		return c
	}
	for _, subject := range [...]string{p.KeyID, p.UserID, p.Project, p.TenantID} {
		if list := m.budgets[subject]; subject != "" && len(list) > 0 {
			c.Budgets = append(slices.Clip(c.Budgets), list...)
		}
	}
	return c
}

// MoneyGeneration grows with each change of prices, budgets or wallets: what was derived from Charge holds until then.
func (v *Verifier) MoneyGeneration() uint64 { return v.money.load().generation }

// moneySince adds what changed of prices, budgets and wallets after a version.
func moneySince(ctx context.Context, q db.Querier, since int64, c *Changes) (err error) {
	if c.Prices, err = pricesSince(ctx, q, since); err != nil {
		return err
	}
	if c.Budgets, err = budgetsSince(ctx, q, since); err != nil {
		return err
	}
	c.Wallets, err = walletsSince(ctx, q, since)
	return err
}
