package user

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

// The errors of usage.
var (
	ErrUsageQuery    = fault.New(fault.Invalid, "user.usage_query", "this usage query cannot be answered")
	ErrUsageNotFound = fault.New(fault.NotFound, "user.usage_not_found", "there is no such request")
	ErrBatch         = fault.New(fault.Invalid, "user.usage_batch", "this usage batch is not acceptable")
	ErrBatchReused   = fault.New(fault.Conflict, "user.usage_batch_reused", "this batch number was used for other rows").WithHint("Two nodes run on copies of one data folder")
)

const batchMost = 5000

func micros(t time.Time) string { return strconv.FormatInt(db.Micro(t), 10) }

func parseInt(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// dayOf is the partition of a usage row: days since 1970 of the time inside its request id.
func dayOf(u Usage) int64 {
	at := id.Time(u.RequestID)
	if at.IsZero() {
		at = u.At
	}
	return at.Unix() / 86400
}

// check refuses rows that could not be booked: a journal with such a row was not written by our gateway.
func (u *Usage) check() error {
	switch {
	case u.RequestID == "" || len(u.RequestID) > 100, u.TenantID == "", u.At.IsZero():
		return ErrBatch.With("a row lacks request id, tenant or time")
	case u.InFresh < 0 || u.InCache < 0 || u.OutText < 0 || u.OutReasoning < 0:
		return ErrBatch.With("row %s has a negative count", u.RequestID)
	}
	return nil
}

// usedKeys lists the keys of rows, sorted, and the time of the newest row.
func usedKeys(rows []bookedRow) (keys []string, last time.Time) {
	seen := map[string]bool{}
	for _, u := range rows {
		if u.KeyID != "" && !seen[u.KeyID] {
			seen[u.KeyID] = true
			keys = append(keys, u.KeyID)
		}
		if u.At.After(last) {
			last = u.At
		}
	}
	slices.Sort(keys)
	return keys, last
}

// digest tells batches of one number apart: SHA-256 over all values of all rows.
func (b *Batch) digest() string {
	h := sha256.New()
	var buf []byte
	for i := range b.Rows {
		u := &b.Rows[i]
		buf = buf[:0]
		for _, s := range [...]string{u.RequestID, u.ClientRequestID, u.TenantID, u.UserID, u.KeyID, u.ProjectID, u.ProviderID, u.PriceVersion, u.Op, u.Model, u.DeploymentID, u.ReplicaID, u.End, u.Source} {
			buf = append(binary.AppendUvarint(buf, uint64(len(s))), s...)
		}
		stream := int64(0)
		if u.Stream {
			stream = 1
		}
		for _, n := range [...]int64{u.At.UnixMicro(), stream, int64(u.Status), int64(u.Attempts), u.InFresh, u.InCache, u.OutText, u.OutReasoning, u.TTFTMS, u.DurationMS, int64(len(u.Lost))} {
			buf = binary.AppendVarint(buf, n)
		}
		for _, l := range u.Lost {
			buf = append(binary.AppendUvarint(buf, uint64(len(l.ProviderID))), l.ProviderID...)
			for _, n := range [...]int64{l.InFresh, l.InCache, l.OutText, l.OutReasoning} {
				buf = binary.AppendVarint(buf, n)
			}
		}
		_, _ = h.Write(buf) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Record implements API.
func (s *Service) Record(ctx context.Context, b Batch) error {
	if b.Node == "" || len(b.Rows) > batchMost {
		return ErrBatch.With("a batch has a node and at most %d rows", batchMost)
	}
	for i := range b.Rows {
		if err := b.Rows[i].check(); err != nil {
			return err
		}
	}
	digest := b.digest()
	priced, err := s.pricing(ctx, b.Rows)
	if err != nil {
		return err
	}
	booked := 0
	err = s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		booked = 0
		n, err := insertBatch(ctx, tx, b, digest, s.Now())
		if err != nil {
			return err
		}
		if n == 0 {
			had, err := batchDigest(ctx, tx, b)
			if err == nil && had != digest {
				return ErrBatchReused
			}
			return err
		}
		fresh, err := insertUsage(ctx, tx, priced)
		if err != nil {
			return err
		}
		booked = len(fresh)
		keys, last := usedKeys(fresh)
		if err := setKeysUsed(ctx, tx, keys, last); err != nil {
			return err
		}
		return s.charge(ctx, tx, b, fresh)
	})
	if err == nil {
		s.metrics.usageRows.WithLabelValues("booked").Add(float64(booked))
		s.metrics.usageRows.WithLabelValues("known").Add(float64(len(b.Rows) - booked))
	}
	return err
}

// UsageQuery asks for sums over time.
type UsageQuery struct {
	From, To time.Time
	Bucket   string   // 1h, 1d
	GroupBy  []string // model, key, user, project, provider, tenant
}

// Tally is a sum of requests and tokens.
type Tally struct {
	Requests         int64 `json:"requests"`
	Errors           int64 `json:"errors"`
	PromptTokens     int64 `json:"prompt_tokens"`
	CachedTokens     int64 `json:"cached_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	ReasoningTokens  int64 `json:"reasoning_tokens" doc:"Of the completion tokens"`
	CostMicro        int64 `json:"cost_micro" doc:"What the calls cost the organisation, in micro-units of the currency, parts of one left out"`
}

func (t *Tally) add(o Tally) {
	t.Requests += o.Requests
	t.Errors += o.Errors
	t.PromptTokens += o.PromptTokens
	t.CachedTokens += o.CachedTokens
	t.CompletionTokens += o.CompletionTokens
	t.ReasoningTokens += o.ReasoningTokens
	t.CostMicro += o.CostMicro
}

// UsageItem is one bucket of one group.
type UsageItem struct {
	At      time.Time `json:"at" doc:"Begin of the bucket"`
	Model   string    `json:"model,omitempty"`
	KeyID   string    `json:"key_id,omitempty"`
	KeyName string    `json:"key_name,omitempty"`
	UserID  string    `json:"user_id,omitempty"`

	ProjectID  string `json:"project_id,omitempty"`
	ProviderID string `json:"provider_id,omitempty" doc:"Absent: an engine of this installation"`
	TenantID   string `json:"tenant_id,omitempty"`
	Tally
}

// UsageReport is the answer to a UsageQuery.
type UsageReport struct {
	Items  []UsageItem `json:"items"`
	Totals Tally       `json:"totals"`
}

// UsageRequest is one model call as people see it.
type UsageRequest struct {
	RequestID        string    `json:"request_id"`
	At               time.Time `json:"at"`
	Model            string    `json:"model"`
	DeploymentID     string    `json:"deployment_id,omitempty"`
	KeyID            string    `json:"key_id,omitempty"`
	KeyName          string    `json:"key_name,omitempty"`
	UserID           string    `json:"user_id,omitempty"`
	Op               string    `json:"op"`
	Stream           bool      `json:"stream"`
	Status           int       `json:"status"`
	End              string    `json:"end"`
	Source           string    `json:"source"`
	Attempts         int       `json:"attempts"`
	PromptTokens     int64     `json:"prompt_tokens"`
	CachedTokens     int64     `json:"cached_tokens"`
	CompletionTokens int64     `json:"completion_tokens"`
	ReasoningTokens  int64     `json:"reasoning_tokens"`
	ProjectID        string    `json:"project_id,omitempty"`
	ProviderID       string    `json:"provider_id,omitempty"`
	PriceVersion     string    `json:"price_version,omitempty" doc:"Absent: no price was set"`
	PricePico        int64     `json:"price_pico" doc:"What it cost, in millionths of a micro-unit"`
	TTFTMS           int64     `json:"ttft_ms"`
	DurationMS       int64     `json:"duration_ms"`
	ClientRequestID  string    `json:"client_request_id,omitempty"`
}

const (
	usageItemsMost = 20_000
	hourMost       = 31 * 24 * time.Hour
	dayMost        = 400 * 24 * time.Hour
)

// fill checks a query and sets its defaults: the last day by hours.
func (q *UsageQuery) fill(now time.Time) error {
	if q.To.IsZero() {
		q.To = now
	}
	if q.Bucket == "" {
		q.Bucket = "1h"
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-24 * time.Hour)
	}
	most := hourMost
	switch q.Bucket {
	case "1h":
	case "1d":
		most = dayMost
	default:
		return ErrUsageQuery.WithFields(fault.Field{Name: "query.bucket", Code: "not_in_list", Message: "must be 1h or 1d"})
	}
	if span := q.To.Sub(q.From); span <= 0 || span > most {
		return ErrUsageQuery.WithFields(fault.Field{Name: "query.from", Code: "out_of_range", Message: "must lie before `to`, by at most " + most.String(), Limit: most.String()})
	}
	for _, g := range q.GroupBy {
		if usageGroups[g] == nil {
			return ErrUsageQuery.WithFields(fault.Field{Name: "query.group_by", Code: "not_in_list", Message: "must name model, key, user, project, provider or tenant"})
		}
	}
	return nil
}

// usageOwner is whose usage the caller may see: "" = all of the team.
func usageOwner(p auth.Principal) string {
	if p.May("billing:read_all") {
		return ""
	}
	return p.UserID
}

// Usage sums requests, tokens and money over time: of the whole team for those with billing:read_all, else of the caller; grouped by tenant, for operators, of all teams.
func (s *Service) Usage(ctx context.Context, q UsageQuery) (UsageReport, error) {
	p, _ := auth.From(ctx)
	if err := q.fill(s.Now()); err != nil {
		return UsageReport{}, err
	}
	r := UsageReport{Items: []UsageItem{}}
	d, tenant, owner := s.db, p.TenantID, usageOwner(p)
	if slices.Contains(q.GroupBy, "tenant") {
		if err := auth.Need(ctx, "billing:operate"); err != nil {
			return UsageReport{}, err
		}
		d, tenant, owner = s.books(), "", ""
	}
	err := d.Read(ctx, func(ctx context.Context, tx *db.Query) error {
		items, err := sumUsage(ctx, tx, tenant, owner, q)
		if err != nil {
			return err
		}
		r.Items = append(r.Items, items...)
		return nil
	})
	for _, i := range r.Items {
		r.Totals.add(i.Tally)
	}
	return r, err
}

// UsageFilter narrows the list of requests.
type UsageFilter struct {
	Model, KeyID string
	Limit        int
	After        string
}

// Requests lists single model calls, newest first.
func (s *Service) Requests(ctx context.Context, f UsageFilter) (page.List[UsageRequest], error) {
	p, _ := auth.From(ctx)
	limit, owner := page.Limit(f.Limit), usageOwner(p)
	filter := "usage\x00" + p.TenantID + "\x00" + owner + "\x00" + f.Model + "\x00" + f.KeyID
	at, last, err := cursor(filter, f.After, db.Micro(s.Now().Add(time.Hour)))
	if err != nil {
		return page.List[UsageRequest]{}, err
	}
	var rows []UsageRequest
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = usageRequests(ctx, q, p.TenantID, owner, f, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[UsageRequest]{}, err
	}
	return page.Of(rows, limit, filter, func(u UsageRequest) []string { return []string{micros(u.At), u.RequestID} }), nil
}

// Request returns one model call: ErrUsageNotFound. A call appears a few seconds after its end.
func (s *Service) Request(ctx context.Context, rid string) (UsageRequest, error) {
	p, _ := auth.From(ctx)
	var u UsageRequest
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		u, err = usageRequest(ctx, q, p.TenantID, usageOwner(p), rid)
		if errors.Is(err, db.ErrNoRow) {
			return ErrUsageNotFound.With("there is no request %q yet", rid).WithHint("Usage appears a few seconds after the end of a request")
		}
		return err
	})
	return u, err
}
