// Package replay makes a POST of the management API safe to repeat: with the header Idempotency-Key the first answer is kept for a day, and the same request gets it again instead of a second effect
// (draft-ietf-httpapi-idempotency-key-header).
//
// A key belongs to one caller (person or API key) and one request: another method, path or body under it is refused. Answers are sealed, for some show a secret once. Answers of 500 and above, event streams and
// answers over 256 KiB are not kept: the request may be repeated.
package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/job"
	"maas/internal/platform/seal"
	"maas/internal/platform/web"
)

// Migrations are the tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Errors that callers see.
var (
	ErrKey      = fault.New(fault.Invalid, "replay.bad_key", "an Idempotency-Key is 1 to 255 visible ASCII characters")
	ErrMismatch = fault.New(fault.Invalid, "replay.mismatch", "this Idempotency-Key was used for another request").WithHint("Take a new key for each request that is not a repetition")
	ErrRunning  = fault.New(fault.Conflict, "replay.in_progress", "the request with this Idempotency-Key is still running").WithHint("Wait a moment, then repeat it")
)

const (
	keep      = 24 * time.Hour
	abandoned = 2 * time.Minute // a running request older than this belongs to a process that died: no route of the management API takes so long
	maxBody   = 1 << 20         // larger requests are uploads, which have a way of their own to go on
	maxAnswer = 256 << 10
)

// Store keeps answers.
type Store struct {
	DB   *db.DB
	Seal *seal.Ring
	Now  clock.Clock
}

type row struct {
	request, state, sealed string
	status                 int
	at                     int64
}

type answer struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// Serve answers a request of p that carries an Idempotency-Key: from the store, or by next, whose answer it keeps.
func (s *Store) Serve(w http.ResponseWriter, r *http.Request, p auth.Principal, next http.Handler) {
	key := r.Header.Get("Idempotency-Key")
	if !visible(key) {
		web.WriteProblem(w, r, ErrKey.WithFields(fault.Field{Name: "header.Idempotency-Key", Code: "format", Message: ErrKey.Message}))
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		web.WriteProblem(w, r, web.ErrBadRequest.Wrap(err))
		return
	}
	if len(body) > maxBody {
		web.WriteProblem(w, r, web.ErrTooLarge.With("with an Idempotency-Key a body has at most %d bytes", maxBody))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	sum := sha256.New()
	_, _ = io.WriteString(sum, r.Method+" "+r.URL.RequestURI()+"\n")
	_, _ = sum.Write(body)
	c := call{s: s, ctx: auth.AsSystem(r.Context(), p.TenantID), tenant: p.TenantID, caller: p.UserID + "/" + p.KeyID, key: key, digest: hex.EncodeToString(sum.Sum(nil)), holder: id.New("rpl")}
	old, err := c.begin()
	switch {
	case err != nil:
		web.WriteProblem(w, r, err)
	case old != nil:
		c.repeat(w, r, *old)
	default:
		c.run(w, r, next)
	}
}

func visible(key string) bool {
	return key != "" && len(key) <= 255 && strings.IndexFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}

// call is one request under a key.
type call struct {
	s                   *Store
	ctx                 context.Context
	tenant, caller, key string
	digest              string // of method, path and body
	holder              string // fences a call that was given up for dead
}

func (c call) place() seal.Place {
	return seal.Place{Table: "replay_answer", Column: "sealed", Row: c.caller + "/" + c.key, Tenant: c.tenant}
}

// begin takes the key for this request, or finds the row of the one before.
func (c call) begin() (old *row, err error) {
	now := c.s.Now()
	err = c.s.DB.Tx(c.ctx, func(ctx context.Context, tx *db.Tx) error {
		old = nil
		n, err := tx.Exec(ctx, `INSERT INTO replay_answer (tenant_id, caller, key, request, state, holder, at) VALUES ($1, $2, $3, $4, 'running', $5, $6)
			ON CONFLICT (tenant_id, caller, key) DO UPDATE SET request = excluded.request, state = 'running', holder = excluded.holder, status = 0, sealed = '', at = excluded.at
			WHERE replay_answer.at < $7 OR replay_answer.state = 'running' AND replay_answer.at < $8`,
			c.tenant, c.caller, c.key, c.digest, c.holder, db.Micro(now), db.Micro(now.Add(-keep)), db.Micro(now.Add(-abandoned)))
		if err != nil || n > 0 {
			return err
		}
		v, err := db.One(ctx, tx, func(r db.Row) (v row, err error) {
			return v, r.Scan(&v.request, &v.state, &v.status, &v.sealed, &v.at)
		}, `SELECT request, state, status, sealed, at FROM replay_answer WHERE tenant_id = $1 AND caller = $2 AND key = $3`, c.tenant, c.caller, c.key)
		old = &v
		return err
	})
	return old, err
}

// repeat gives the answer of the first time.
func (c call) repeat(w http.ResponseWriter, r *http.Request, old row) {
	switch {
	case old.request != c.digest:
		web.WriteProblem(w, r, ErrMismatch.WithFields(fault.Field{Name: "header.Idempotency-Key", Code: "conflict", Message: ErrMismatch.Message}))
		return
	case old.state == "running":
		w.Header().Set("Retry-After", "1")
		web.WriteProblem(w, r, ErrRunning)
		return
	}
	plain, err := c.s.Seal.Open(c.ctx, c.place(), old.sealed)
	var a answer
	if err == nil {
		err = json.Unmarshal(plain, &a)
	}
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(old.status)
	_, _ = w.Write(a.Body)
}

// run does the request and keeps its answer. What panics, breaks off or cannot be kept gives the key back.
func (c call) run(w http.ResponseWriter, r *http.Request, next http.Handler) {
	t := &tee{ResponseWriter: w}
	kept := false
	ctx := context.WithoutCancel(c.ctx) // the answer is kept although the caller has gone: the caller will ask again
	defer func() {
		if kept {
			return
		}
		_ = c.s.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { // left behind it would block the key for two minutes at most
			_, err := tx.Exec(ctx, `DELETE FROM replay_answer WHERE tenant_id = $1 AND caller = $2 AND key = $3 AND state = 'running' AND holder = $4`, c.tenant, c.caller, c.key, c.holder)
			return err
		})
	}()
	next.ServeHTTP(t, r)
	if !t.keeps() {
		return
	}
	plain, err := json.Marshal(answer{t.kept, t.body.Bytes()})
	if err != nil {
		return
	}
	sealed, err := c.s.Seal.Seal(ctx, c.place(), plain)
	if err != nil {
		return
	}
	kept = c.s.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE replay_answer SET state = 'done', status = $1, sealed = $2 WHERE tenant_id = $3 AND caller = $4 AND key = $5 AND state = 'running' AND holder = $6`,
			t.status, sealed, c.tenant, c.caller, c.key, c.holder)
		return db.Guard(n, err, errors.New("the key was given back meanwhile"))
	}) == nil
}

// headers that belong to one exchange, not to the answer.
var passing = map[string]bool{"X-Request-Id": true, "Date": true, "Set-Cookie": true, "Connection": true, "Retry-After": true}

// tee passes an answer on and keeps a copy while it is small.
type tee struct {
	http.ResponseWriter
	status int
	kept   http.Header
	body   bytes.Buffer
	over   bool
}

func (t *tee) WriteHeader(status int) {
	if t.status == 0 && status >= 200 {
		t.status, t.kept = status, http.Header{}
		for k, v := range t.Header() {
			if !passing[k] {
				t.kept[k] = v
			}
		}
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *tee) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.WriteHeader(http.StatusOK)
	}
	if t.over = t.over || t.body.Len()+len(p) > maxAnswer; !t.over {
		t.body.Write(p)
	}
	return t.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *tee) keeps() bool {
	return t.status != 0 && t.status < http.StatusInternalServerError && t.status != http.StatusTooManyRequests && !t.over && !strings.HasPrefix(t.kept.Get("Content-Type"), "text/event-stream")
}

var expire = job.Kind[struct{}]{Name: "replay.expire", Lane: "maintenance", MaxAttempts: 3}

// Jobs registers the hourly removal of answers that are older than a day.
func (s *Store) Jobs(r *job.Registry) {
	job.Handle(r, expire, func(ctx context.Context, _ *job.Run, _ struct{}) error {
		return s.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM replay_answer WHERE at < $1`, db.Micro(s.Now().Add(-keep)))
			return err
		})
	})
	job.Schedule(r, "replay.expire", "@every 1h", expire, struct{}{})
}
