package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/page"
)

// State of an entry.
type State string

// The states.
const (
	Queued    State = "queued"
	Waiting   State = "waiting"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Final reports whether the entry has ended.
func (s State) Final() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Subject is what an entry is about.
type Subject struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Progress of a running entry. Total 0 = unknown.
type Progress struct {
	Done    int64   `json:"done"`
	Total   int64   `json:"total"`
	Unit    string  `json:"unit"`
	Percent float64 `json:"percent"`
	ETA     int64   `json:"eta_s,omitempty"` // seconds, by the mean speed of this attempt
	Note    string  `json:"note,omitempty"`
}

// Problem is the last error of an entry.
type Problem struct {
	Code   string `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// Entry is one piece of work as people see it.
type Entry struct {
	ID         string          `json:"id"`
	Kind       string          `json:"kind"`
	Lane       string          `json:"lane"`
	Subject    *Subject        `json:"subject"`
	State      State           `json:"state"`
	Stage      string          `json:"stage,omitempty"`
	Progress   Progress        `json:"progress"`
	Waiting    *Reason         `json:"waiting"` // never null while queued or waiting
	Error      *Problem        `json:"error"`   // of the last attempt
	Result     json.RawMessage `json:"result,omitempty"`
	Attempt    int             `json:"attempt"`
	Attempts   int             `json:"max_attempts"`
	Cancelling bool            `json:"cancelling,omitempty"`
	CreatedAt  time.Time       `json:"created_at"`
	StartedAt  time.Time       `json:"started_at,omitzero"`
	FinishedAt time.Time       `json:"finished_at,omitzero"`

	TenantID string          `json:"-"`
	Payload  json.RawMessage `json:"-"`
	fence    int64
	runAt    int64
	priority int64
	parent   string
	deaths   int
}

const columns = `id, tenant_id, kind, lane, subject_kind, subject_id, state, stage, done, total, unit, note, wait_code, wait_message, wait_since, run_at, error, result, attempt, max_attempts, cancel_at, created_at, started_at, finished_at, payload, fence, priority, parent, deaths`

func scanEntry(r db.Row) (e Entry, err error) {
	var s Subject
	var why Reason
	var since, cancel, created, started, finished int64
	var problem, result, payload string
	err = r.Scan(&e.ID, &e.TenantID, &e.Kind, &e.Lane, &s.Kind, &s.ID, &e.State, &e.Stage, &e.Progress.Done, &e.Progress.Total, &e.Progress.Unit, &e.Progress.Note, &why.Code, &why.Message, &since, &e.runAt,
		&problem, &result, &e.Attempt, &e.Attempts, &cancel, &created, &started, &finished, &payload, &e.fence, &e.priority, &e.parent, &e.deaths)
	if err != nil {
		return e, err
	}
	if s.ID != "" {
		e.Subject = &s
	}
	why.Since = db.FromMicro(since)
	if e.State == Queued || e.State == Waiting {
		if e.State == Waiting && e.runAt < never {
			why.Until = db.FromMicro(e.runAt)
		}
		e.Waiting = &why
	}
	if problem != "" {
		f := fault.Decode([]byte(problem))
		e.Error = &Problem{f.Code, f.Message, f.Detail, f.Hint}
	}
	if result != "" {
		e.Result = json.RawMessage(result)
	}
	e.Cancelling = cancel != 0 && e.State == Running
	e.CreatedAt, e.StartedAt, e.FinishedAt, e.Payload = db.FromMicro(created), db.FromMicro(started), db.FromMicro(finished), json.RawMessage(payload)
	if p := &e.Progress; p.Total > 0 {
		p.Percent = min(100, 100*float64(p.Done)/float64(p.Total))
		if e.State == Running && p.Done > 0 && p.Done < p.Total {
			p.ETA = int64(clock.Now().Sub(e.StartedAt).Seconds() * float64(p.Total-p.Done) / float64(p.Done))
		}
	}
	return e, nil
}

// Get returns an entry of the tenant of ctx with the reason why it waits. ErrNotFound.
func Get(ctx context.Context, q db.Querier, id string) (Entry, error) {
	e, err := db.One(ctx, q, scanEntry, `SELECT `+columns+` FROM job_entry WHERE id = $1 AND tenant_id = $2`, id, auth.Tenant(ctx))
	if errors.Is(err, db.ErrNoRow) {
		return e, ErrNotFound
	}
	if err != nil {
		return e, err
	}
	return e, explain(ctx, q, &e)
}

// Filter of a list. Empty fields filter nothing.
type Filter struct {
	State     State
	Kind      string
	SubjectID string
	Dead      bool // failed and not dismissed
	After     string
	Limit     int
}

// List returns entries of the tenant of ctx, newest first.
func List(ctx context.Context, q db.Querier, f Filter) (page.List[Entry], error) {
	var none page.List[Entry]
	bound := fmt.Sprintf("jobs|%s|%s|%s|%v", f.State, f.Kind, f.SubjectID, f.Dead)
	keys, err := page.Decode(bound, f.After, 1)
	if err != nil {
		return none, err
	}
	text, args := `SELECT `+columns+` FROM job_entry WHERE tenant_id = $1`, []any{auth.Tenant(ctx)}
	where := func(cond string, v any) {
		args = append(args, v)
		text += fmt.Sprintf(" AND %s $%d", cond, len(args))
	}
	if keys != nil {
		where("id <", keys[0])
	}
	if f.State != "" {
		where("state =", string(f.State))
	}
	if f.Kind != "" {
		where("kind =", f.Kind)
	}
	if f.SubjectID != "" {
		where("subject_id =", f.SubjectID)
	}
	if f.Dead {
		text += ` AND state = 'failed' AND dismissed_at = 0`
	}
	limit := page.Limit(f.Limit)
	args = append(args, limit+1)
	rows, err := db.List(ctx, q, scanEntry, text+fmt.Sprintf(` ORDER BY id DESC LIMIT $%d`, len(args)), args...)
	if err != nil {
		return none, err
	}
	for i := range rows {
		if err := explain(ctx, q, &rows[i]); err != nil {
			return none, err
		}
	}
	return page.Of(rows, limit, bound, func(e Entry) []string { return []string{e.ID} }), nil
}

// Cancel ends a queued or waiting entry of the tenant of ctx at once, and a running one within a heartbeat. Cancelling twice is fine. ErrNotFound, ErrEnded.
func Cancel(ctx context.Context, tx *db.Tx, id string) (Entry, error) {
	now, tenant := db.Micro(clock.Now()), auth.Tenant(ctx)
	n, err := tx.Exec(ctx, `UPDATE job_entry SET state = 'cancelled', finished_at = $3, updated_at = $3, cancel_at = $3 WHERE id = $1 AND tenant_id = $2 AND state IN ('queued', 'waiting')`, id, tenant, now)
	if err != nil {
		return Entry{}, err
	}
	if n == 1 {
		if err := settleChildren(ctx, tx, id, false, now); err != nil {
			return Entry{}, err
		}
		return Get(ctx, tx, id)
	}
	n, err = tx.Exec(ctx, `UPDATE job_entry SET cancel_at = CASE WHEN cancel_at = 0 THEN $3 ELSE cancel_at END, updated_at = $3 WHERE id = $1 AND tenant_id = $2 AND state = 'running'`, id, tenant, now)
	if err != nil {
		return Entry{}, err
	}
	e, err := Get(ctx, tx, id)
	if err == nil && n == 0 {
		return e, ErrEnded.With("the job is %s", e.State)
	}
	tx.Notify(wakeCancel)
	return e, err
}

// Retry queues a failed or cancelled entry of the tenant of ctx again, with fresh attempts; finished stages and its checkpoint stay. ErrNotFound, ErrNotFailed; job.ended if a newer entry has its key.
func Retry(ctx context.Context, tx *db.Tx, id string) (Entry, error) {
	now := db.Micro(clock.Now())
	n, err := tx.Exec(ctx, `UPDATE job_entry SET state = 'queued', run_at = $3, attempt = 0, deaths = 0, cancel_at = 0, finished_at = 0, dismissed_at = 0, wait_code = '', wait_message = '', wait_since = $3, updated_at = $3
		WHERE id = $1 AND tenant_id = $2 AND state IN ('failed', 'cancelled')`, id, auth.Tenant(ctx), now)
	if db.Duplicate(err, "key") {
		return Entry{}, ErrEnded.With("a newer job for the same is under way")
	}
	if err != nil {
		return Entry{}, err
	}
	e, err := Get(ctx, tx, id)
	if err == nil && n == 0 {
		return e, ErrNotFailed.With("the job is %s", e.State)
	}
	tx.Notify(wakeLane)
	return e, err
}

// Dismiss takes a failed entry of the tenant of ctx off the dead-letter page; it is deleted 30 days later. ErrNotFound, ErrNotFailed.
func Dismiss(ctx context.Context, tx *db.Tx, id string) error {
	now := db.Micro(clock.Now())
	n, err := tx.Exec(ctx, `UPDATE job_entry SET dismissed_at = $3, updated_at = $3 WHERE id = $1 AND tenant_id = $2 AND state = 'failed' AND dismissed_at = 0`, id, auth.Tenant(ctx), now)
	if err != nil || n == 1 {
		return err
	}
	e, err := Get(ctx, tx, id)
	if err == nil {
		err = ErrNotFailed.With("the job is %s", e.State)
	}
	return err
}

// settleChildren lets the entries go on, or fail, that waited for this one.
func settleChildren(ctx context.Context, tx *db.Tx, parent string, ok bool, now int64) error {
	if ok {
		n, err := tx.Exec(ctx, `UPDATE job_entry SET run_at = not_before, wait_code = 'not_before', wait_message = 'It is planned for a later time.', updated_at = $2 WHERE parent = $1 AND state = 'waiting' AND wait_code = 'parent'`, parent, now)
		if n > 0 {
			tx.Notify(wakeLane)
		}
		return err
	}
	children, err := db.List(ctx, tx, db.Scalar[string], `UPDATE job_entry SET state = 'failed', error = $2, finished_at = $3, updated_at = $3 WHERE parent = $1 AND state = 'waiting' AND wait_code = 'parent' RETURNING id`, parent, string(fault.Encode(ErrParent)), now)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := settleChildren(ctx, tx, c, false, now); err != nil {
			return err
		}
	}
	return nil
}

// LogLine is one line of an entry's log.
type LogLine struct {
	At    time.Time `json:"at"`
	Level string    `json:"level"`
	Text  string    `json:"text"`
}

// Lines returns the log of an entry of the tenant of ctx, at most 1,000 lines, oldest first. ErrNotFound.
func Lines(ctx context.Context, q db.Querier, id string) (page.List[LogLine], error) {
	l := page.List[LogLine]{Items: []LogLine{}}
	if _, err := Get(ctx, q, id); err != nil {
		return l, err
	}
	scan := func(r db.Row) (x LogLine, err error) {
		var at int64
		err = r.Scan(&at, &x.Level, &x.Text)
		x.At = db.FromMicro(at)
		return x, err
	}
	rows, err := db.List(ctx, q, scan, `SELECT at, level, text FROM job_log WHERE entry_id = $1 ORDER BY seq LIMIT $2`, id, maxLog)
	l.Items = append(l.Items, rows...)
	return l, err
}
