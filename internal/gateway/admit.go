package gateway

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/h1"
	"maas/internal/platform/meter"
	"maas/internal/user"
)

// The refusals of limits and budgets. A limit of requests or tokens per minute is ErrBusy with the words and the wait of the limit.
var (
	ErrOverLimit = fault.New(fault.Limited, "gateway.request_over_limit", "the request is larger than the whole limit").WithHint("Send less text, or a smaller max_tokens")
	ErrBudget    = fault.New(fault.Limited, "gateway.budget_exceeded", "the budget is used up").WithHint("Ask whoever manages the budget to raise it")
	ErrBalance   = fault.New(fault.Limited, "gateway.balance_exhausted", "the balance is used up").WithHint("Top up the balance of the organisation")
	ErrQuota     = fault.New(fault.Unavailable, "gateway.quota_unavailable", "budgets cannot be checked now")
	ErrLimits    = fault.New(fault.Unavailable, "gateway.limits_unavailable", "limits cannot be checked now")
	ErrStrictMax = fault.New(fault.Invalid, "gateway.max_tokens_required", "this key reserves the most that a call can cost, so the request must say max_tokens")
)

// limitField marks a fault of a limit per minute or at a time: its name is the unit.
const limitField = "limit"

// pass is the admission of one call.
type pass struct {
	ticket meter.Ticket
	policy *policy
	terms  *modelTerms
	price  *priced
	in     int64 // tokens of the prompt, estimated
	cut    bool  // we ended the call
}

// policy is what a credential is held to, derived once from its rights, limits and budgets and kept with it until one of them changes.
type policy struct {
	rights  *auth.Principal // of the credential: another pointer = other rights
	project string
	limits  uint64 // generation of limits that it was made from
	money   uint64 // generation of prices, budgets, wallets

	subject meter.Subject
	paid    bool // money counts: a budget of money, or a wallet that may refuse
	strict  bool
	models  atomic.Pointer[map[string]*modelTerms]
}

// policies are those of one credential: one for each project that it acted for.
type policies struct{ list []*policy }

// modelTerms is what calls of one model by one caller are held to.
type modelTerms struct {
	buckets []*meter.Bucket
	sizes   *sizes
	price   atomic.Pointer[priced]
}

// priced is a price as it was found at a second.
type priced struct {
	second int64
	user.PriceVersion
}

// policyOf returns what a caller is held to. Known ones cost two loads and a comparison.
func (g *Gateway) policyOf(cred *user.Credential, who *auth.Principal) *policy {
	rights, limits, money := cred.Rights(), g.Verifier.LimitGeneration(), g.Verifier.MoneyGeneration()
	memo := cred.Memo()
	kept, _ := memo.Load().(*policies)
	if kept != nil {
		for _, p := range kept.list {
			if p.rights == rights && p.limits == limits && p.money == money && p.project == who.Project {
				return p
			}
		}
	}
	p := &policy{rights: rights, limits: limits, money: money, project: who.Project}
	own, strict := cred.KeyTerms()
	p.strict = strict
	p.subject = meter.Subject{Key: who.KeyID, User: who.UserID, Project: who.Project, Tenant: who.TenantID, Buckets: g.buckets(g.Verifier.LimitsOf(who, own))}
	charge := g.Verifier.Charge(who)
	for _, b := range charge.Budgets {
		if b.Hard {
			p.subject.Budgets = append(p.subject.Budgets, g.meter.Budget(b.ID, b.Kind, b.ID, b.Unit))
			p.paid = p.paid || b.Unit == meter.Money
		}
	}
	if charge.Wallet != "" {
		p.subject.Budgets = append(p.subject.Budgets, g.meter.Budget(charge.Wallet, "wallet", charge.Wallet, meter.Money))
		p.paid = true
	}
	p.models.Store(&map[string]*modelTerms{})
	next := &policies{list: []*policy{p}}
	if kept != nil {
		for _, o := range kept.list {
			if o.rights == rights && o.limits == limits && o.money == money && o.project != p.project && len(next.list) < 64 {
				next.list = append(next.list, o)
			}
		}
	}
	memo.Store(next)
	return p
}

func (g *Gateway) buckets(limits []meter.Limit) []*meter.Bucket {
	var list []*meter.Bucket
	for _, l := range limits {
		if b := g.meter.Bucket(l); b != nil {
			list = append(list, b)
		}
	}
	return list
}

const modelsKept = 1000 // of one policy: names of models come from requests that were resolved, so there are not many

// of returns the terms of a model.
func (p *policy) of(g *Gateway, model string) *modelTerms {
	for {
		known := p.models.Load()
		if t := (*known)[model]; t != nil {
			return t
		}
		next := maps.Clone(*known)
		if len(next) >= modelsKept {
			clear(next)
		}
		t := &modelTerms{buckets: g.buckets(g.Verifier.LimitsOfModel(p.subject.Tenant, model)), sizes: g.sizes.of(model)}
		next[model] = t
		if p.models.CompareAndSwap(known, &next) {
			return t
		}
	}
}

// priceAt is the price that holds now; a new version begins with its second.
func (t *modelTerms) priceAt(g *Gateway, tenant, model string, at time.Time) *priced {
	if p := t.price.Load(); p != nil && p.second == at.Unix() {
		return p
	}
	p := &priced{at.Unix(), g.Verifier.Price(tenant, model, at)}
	t.price.Store(p)
	return p
}

// pico is what counts cost; amounts that do not fit are as good as infinite.
func (p *priced) pico(c user.Counts) int64 {
	if p.ID == "" {
		return 0
	}
	n, ok := p.Quote(c)
	if !ok {
		return 1 << 60
	}
	return n
}

// enter passes the limits, slots, budgets and the wallet of a call, all or nothing, before an engine is picked.
func (c *call) enter(who *auth.Principal) error {
	p := c.g.policyOf(c.cred, who)
	t := p.of(c.g, c.row.Model)
	c.pass.policy, c.pass.terms = p, t
	c.pass.price = t.priceAt(c.g, who.TenantID, c.row.Model, c.row.At)
	c.row.ProjectID, c.row.PriceVersion = who.Project, c.pass.price.ID
	ask := meter.Ask{Requests: 1, Also: t.buckets}
	if !c.op.free {
		in, out, err := c.size(p, t)
		if err != nil {
			return err
		}
		c.pass.in, ask.Tokens = in, in+out
		if p.paid {
			ask.MoneyPico = c.pass.price.pico(user.Counts{Input: in, Output: out, Requests: 1})
		}
	}
	if err := c.g.meter.Admit(c.gone, &c.pass.ticket, c.g.meter.Now(), &p.subject, ask); err != nil {
		return worded(err)
	}
	return nil
}

// worded turns a refusal of the meter into a fault. It is apart so that calls which pass allocate nothing for it.
func worded(err error) error {
	if r, ok := errors.AsType[*meter.Refusal](err); ok {
		return refused(r)
	}
	return err
}

// size estimates the tokens of a call: likely ones, or, for a strict key, the most that there can be.
func (c *call) size(p *policy, t *modelTerms) (in, out int64, err error) {
	whole := int64(c.target.Model.ContextLength)
	choices := max(c.f.n, 1)
	if p.strict {
		in = int64(len(c.body)) // a token covers at least a byte
		switch {
		case c.op.plain:
			return in, 0, nil
		case c.f.hasMax:
			return in, choices * max(c.f.maxTokens, 0), nil
		case whole > 0:
			return in, choices * whole, nil
		}
		return 0, 0, ErrStrictMax.WithFields(fault.Field{Name: "max_tokens", Code: "required", Message: "must be sent with this key"})
	}
	in = t.sizes.prompt(int64(c.f.textBytes))
	if whole > 0 {
		in = min(in, whole)
	}
	if c.op.plain {
		return in, 0, nil
	}
	out = t.sizes.answerTokens()
	if c.f.hasMax {
		out = max(c.f.maxTokens, 0)
	}
	if whole > 0 {
		out = min(out, whole)
	}
	return in, choices * out, nil
}

// extend charges what a running stream has consumed beyond its reservation. An exhausted budget ends the stream only where the configuration says so.
func (c *call) extend() *fault.Error {
	if !c.pass.ticket.Held() {
		return nil
	}
	in, out := c.pass.in, c.cut.events
	if u := &c.cut.usage; u.told {
		in, out = u.prompt(), u.outText+u.outThought
	}
	used := meter.Ask{Tokens: in + out}
	if c.pass.policy.paid {
		used.MoneyPico = c.pass.price.pico(user.Counts{Input: in, Output: out, Requests: 1})
	}
	err := c.pass.ticket.Extend(used)
	if err == nil || c.g.Config.OnExhausted != "cut" {
		return nil
	}
	return fault.From(worded(err))
}

// release ends the admission with what the call truly consumed, as its row says.
func (c *call) release() {
	t := &c.pass.ticket
	if !t.Held() {
		return
	}
	u := &c.row
	actual := meter.Ask{Tokens: u.InFresh + u.InCache + u.OutText + u.OutReasoning}
	if u.Source != user.SourceNone || actual.Tokens > 0 {
		actual.Requests = 1
		if c.pass.policy.paid {
			actual.MoneyPico = c.pass.price.pico(user.Counts{Input: u.InFresh, CachedInput: u.InCache, Output: u.OutText, Reasoning: u.OutReasoning, Requests: 1})
		}
	}
	if !t.Settle(actual) {
		c.g.metrics.unsettled.Inc()
	}
	if c.told.told && u.End == user.EndDone {
		c.pass.terms.sizes.learn(int64(c.f.textBytes), c.told.prompt(), c.told.outText+c.told.outThought)
	}
}

// refused is the fault of a refusal.
func refused(r *meter.Refusal) *fault.Error {
	var e *fault.Error
	switch r.Reason {
	case meter.RateLimited:
		e = ErrBusy.WithHint("").After(r.Wait)
	case meter.TooMany:
		e = ErrTooManyIn.After(max(r.Wait, time.Second))
	case meter.OverLimit:
		e = ErrOverLimit
	case meter.BudgetSpent:
		return ErrBudget.With("%s", r.Error())
	case meter.BalanceSpent:
		return ErrBalance.With("%s", r.Error())
	case meter.LimitsUnknown:
		return ErrLimits.After(2 * time.Second)
	default:
		return ErrQuota.After(max(r.Wait, time.Second))
	}
	return e.With("%s", r.Error()).WithFields(fault.Field{Name: string(r.Unit), Code: limitField, Message: r.Error(), Limit: r.Limit})
}

// final reports whether a limit is one that waiting does not lift.
func final(e *fault.Error) bool {
	return errors.Is(e, ErrOverLimit) || errors.Is(e, ErrBudget) || errors.Is(e, ErrBalance)
}

// unitOf is the unit of a fault of a limit; "" for others.
func unitOf(e *fault.Error) string {
	if i := slices.IndexFunc(e.Fields, func(f fault.Field) bool { return f.Code == limitField }); i >= 0 {
		return e.Fields[i].Name
	}
	return ""
}

// cutOff ends a running call from our side.
func (c *call) cutOff(answer *h1.Response, e *fault.Error) *fault.Error {
	c.row.End, c.pass.cut = user.EndRefused, true
	answer.Cancel()
	return e
}
