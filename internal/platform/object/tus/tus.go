// Package tus takes resumable uploads by the tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload) into a bucket: core, creation, creation-with-upload, expiration, checksum, termination.
//
// Bytes count only when they are durable: the offset in the row is written after the bytes are synced, with the state of the SHA-256 at that point, so that a killed server goes on where it was. One PATCH
// writes at a time: the row names its holder until a moment that moves on while bytes arrive; a newer PATCH takes over from one that stalls.
package tus

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"log/slog"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/job"
	"maas/internal/platform/object"
)

// Errors of this package.
var (
	ErrNotFound   = fault.New(fault.NotFound, "upload.not_found", "there is no such upload")
	ErrExpired    = fault.New(fault.NotFound, "upload.expired", "the upload was left alone for too long and is gone")
	ErrUnfinished = fault.New(fault.Conflict, "upload.unfinished", "the upload is not complete yet")
	ErrConsumed   = fault.New(fault.Conflict, "upload.consumed", "the upload was used already")
	ErrPurpose    = fault.New(fault.Invalid, "upload.bad_purpose", "the upload does not say what it is for")
	ErrTooMany    = fault.New(fault.Limited, "upload.too_many", "too many uploads are open")
	ErrTooLarge   = fault.New(fault.TooLarge, "upload.too_large", "the upload is over the limit")
	ErrHeader     = fault.New(fault.Invalid, "upload.bad_header", "a header of the upload is missing or wrong")
	ErrVersion    = fault.New(fault.Invalid, "upload.version", "this server speaks tus 1.0.0")
	ErrMedia      = fault.New(fault.Invalid, "upload.media_type", "bytes are sent as application/offset+octet-stream")
	ErrOffset     = fault.New(fault.Conflict, "upload.offset", "the upload is at another offset")
	ErrLocked     = fault.New(fault.Conflict, "upload.locked", "another request is sending this upload").After(time.Second)
	ErrChecksum   = fault.New(fault.Invalid, "upload.checksum", "the bytes that came are not the ones that were sent")
	ErrMethod     = fault.New(fault.Invalid, "upload.method", "an upload does not take this method")
)

// States of an upload.
const (
	open     = "open"
	finished = "finished"
	consumed = "consumed"
)

const (
	rest    = 7 * 24 * time.Hour // from the last byte to expiry
	maxOpen = 20                 // open uploads of one person
)

// Upload is one upload; finished ones are objects in the bucket under Key until Consume takes them or they expire.
type Upload struct {
	ID        string            `json:"id"`
	TenantID  string            `json:"tenant_id"`
	UserID    string            `json:"user_id"`
	Purpose   string            `json:"purpose"`
	Metadata  map[string]string `json:"metadata"` // all of Upload-Metadata; purpose and sha256 mean something here
	Size      int64             `json:"size_bytes"`
	Offset    int64             `json:"offset"`
	SHA256    string            `json:"sha256,omitempty"` // of the whole, once finished
	State     string            `json:"state"`            // open, finished, consumed
	CreatedAt time.Time         `json:"created_at"`
	ExpiresAt time.Time         `json:"expires_at"`
	Key       string            `json:"-"` // object key: upload/<tenant>/<id>

	hash []byte // state of the SHA-256 at Offset
	meta string // Upload-Metadata as it came
}

// Purpose is what a service does with uploads of its kind (`Upload-Metadata: purpose <name>`).
type Purpose struct {
	Permission string                                               // needed to create; "" = none
	MaxSize    int64                                                // bytes; 0 = the handler's limit
	Allow      func(ctx context.Context, u Upload) error            // may this begin? before the first byte; nil = yes
	Done       func(ctx context.Context, tx *db.Tx, u Upload) error // in the transaction that marks it finished; nil = nothing
}

// Deps of a Handler.
type Deps struct {
	DB      *db.DB
	Bucket  object.Bucket // must be an object.Appender
	Log     *slog.Logger
	Now     clock.Clock
	Path    string // where it is mounted: /api/v1/uploads
	MaxSize int64  // bytes; 0 = 1 TiB
}

// Handler serves the protocol at Path and Path/{id}. The caller is authenticated before it. Uploads belong to the person who began them.
type Handler struct {
	Deps
	bucket   object.Appender
	purposes map[string]Purpose
	boot     string // of this life of the process
	active   active
}

// New makes a Handler. object.ErrBadURL for buckets that cannot take uploads.
func New(d Deps) (*Handler, error) {
	a, ok := d.Bucket.(object.Appender)
	if !ok {
		return nil, object.ErrBadURL.With("this bucket cannot take resumable uploads")
	}
	if d.MaxSize <= 0 {
		d.MaxSize = 1 << 40
	}
	if d.Now == nil {
		d.Now = clock.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Handler{Deps: d, bucket: a, purposes: map[string]Purpose{}, boot: id.New("boot"), active: active{requests: map[string]*request{}}}, nil
}

// Purpose registers a purpose. Before serving.
func (h *Handler) Purpose(name string, p Purpose) { h.purposes[name] = p }

const columns = `id, tenant_id, user_id, purpose, metadata, size, offset_at, hash_state, sha256, state, created_at, expires_at`

func scan(r db.Row) (u Upload, err error) {
	var created, expires int64
	err = r.Scan(&u.ID, &u.TenantID, &u.UserID, &u.Purpose, &u.meta, &u.Size, &u.Offset, &u.hash, &u.SHA256, &u.State, &created, &expires)
	if err != nil {
		return u, err
	}
	u.CreatedAt, u.ExpiresAt, u.Key = db.FromMicro(created), db.FromMicro(expires), key(u.TenantID, u.ID)
	u.Metadata, err = parseMetadata(u.meta)
	return u, err
}

// key of the object of a finished upload. Tenants without a name are the installation's.
func key(tenant, id string) string {
	if tenant == "" {
		tenant = "system"
	}
	return "upload/" + tenant + "/" + id
}

// Get returns an upload of the tenant of ctx. ErrNotFound.
func Get(ctx context.Context, q db.Querier, id string) (Upload, error) {
	u, err := db.One(ctx, q, scan, `SELECT `+columns+` FROM object_upload WHERE id = $1 AND tenant_id = $2`, id, auth.Tenant(ctx))
	if errors.Is(err, db.ErrNoRow) {
		err = ErrNotFound
	}
	return u, err
}

// Consume takes a finished upload over: from then on its object belongs to the caller, who moves it to a key of its own. ErrNotFound, ErrUnfinished, ErrConsumed the second time.
func Consume(ctx context.Context, tx *db.Tx, id string) (Upload, error) {
	n, err := tx.Exec(ctx, `UPDATE object_upload SET state = 'consumed', updated_at = $3 WHERE id = $1 AND tenant_id = $2 AND state = 'finished'`, id, auth.Tenant(ctx), db.Micro(clock.Now()))
	if err != nil {
		return Upload{}, err
	}
	u, err := Get(ctx, tx, id)
	switch {
	case err != nil || n == 1:
		return u, err
	case u.State == consumed:
		return u, ErrConsumed
	}
	return u, ErrUnfinished.With("%d of %d bytes of %s are there", u.Offset, u.Size, id)
}

// create writes the row of a new upload.
func (h *Handler) create(ctx context.Context, u Upload) error {
	return h.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.One(ctx, tx, db.Scalar[int64], `SELECT COUNT(*) FROM object_upload WHERE tenant_id = $1 AND user_id = $2 AND state = 'open' AND expires_at > $3`, u.TenantID, u.UserID, db.Micro(h.Now()))
		if err != nil {
			return err
		}
		if n >= maxOpen {
			return ErrTooMany.With("%d uploads are open, the limit is %d", n, maxOpen).WithHint("Finish or delete one of them")
		}
		state, err := sha256.New().(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO object_upload (id, tenant_id, user_id, purpose, metadata, size, hash_state, state, created_at, updated_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'open', $8, $8, $9)`,
			u.ID, u.TenantID, u.UserID, u.Purpose, u.meta, u.Size, state, db.Micro(u.CreatedAt), db.Micro(u.ExpiresAt))
		return err
	})
}

// load reads an upload of the caller: its own, not somebody else's of the tenant. ErrNotFound, ErrExpired.
func (h *Handler) load(ctx context.Context, id string) (u Upload, err error) {
	err = h.DB.Read(ctx, func(ctx context.Context, q *db.Query) error { u, err = Get(ctx, q, id); return err })
	if err != nil {
		return u, err
	}
	p, _ := auth.From(ctx)
	switch {
	case p.Kind != auth.System && u.UserID != p.UserID:
		return u, ErrNotFound
	case u.State != consumed && !h.Now().Before(u.ExpiresAt):
		return u, ErrExpired
	}
	return u, nil
}

// advance notes that the bytes up to offset are durable, with the hash at that point, if holder still holds the upload. ErrLocked else.
func (h *Handler) advance(ctx context.Context, u Upload, holder string, offset int64, sum hash.Hash) error {
	state, err := sum.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return err
	}
	now := h.Now()
	return h.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE object_upload SET offset_at = $3, hash_state = $4, updated_at = $5, expires_at = $6, held_until = $7 WHERE id = $1 AND holder = $2 AND state = 'open'`,
			u.ID, holder, offset, state, db.Micro(now), db.Micro(now.Add(rest)), db.Micro(now.Add(hold)))
		return db.Guard(n, err, ErrLocked)
	})
}

// finish turns a complete upload into its object and tells the owner. Repeating it is fine.
func (h *Handler) finish(ctx context.Context, u Upload, sum hash.Hash) error {
	u.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if want := u.Metadata["sha256"]; want != "" && want != u.SHA256 {
		if err := h.remove(ctx, u); err != nil {
			return err
		}
		return ErrChecksum.With("the file has SHA-256 %s, announced was %s; the upload is gone, send it again", u.SHA256, want)
	}
	if u.Size == 0 { // nothing was appended, so there is nothing to rename
		if _, err := h.bucket.Append(ctx, u.ID, 0, emptyReader{}, nil); err != nil {
			return err
		}
	}
	if _, err := h.bucket.Finish(ctx, u.ID, u.Key, object.PutOptions{Size: u.Size, SHA256: u.SHA256}); err != nil {
		return err
	}
	u.State, u.ExpiresAt = finished, h.Now().Add(rest)
	return h.DB.Tx(auth.AsSystem(ctx, u.TenantID), func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE object_upload SET state = 'finished', sha256 = $2, offset_at = size, hash_state = $3, holder = '', held_until = 0, updated_at = $4, expires_at = $5 WHERE id = $1 AND state = 'open'`,
			u.ID, u.SHA256, []byte{}, db.Micro(h.Now()), db.Micro(u.ExpiresAt))
		if err != nil || n == 0 {
			return err
		}
		if done := h.purposes[u.Purpose].Done; done != nil {
			return done(ctx, tx, u)
		}
		return nil
	})
}

// remove deletes bytes and row of an upload that nobody has consumed.
func (h *Handler) remove(ctx context.Context, u Upload) error {
	if err := h.bucket.Discard(ctx, u.ID); err != nil {
		return err
	}
	if u.State == finished {
		if err := h.Bucket.Delete(ctx, u.Key); err != nil {
			return err
		}
	}
	return h.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM object_upload WHERE id = $1 AND state = $2`, u.ID, u.State)
		return err
	})
}

var expire = job.Kind[struct{}]{Name: "object.expire_uploads", Lane: "maintenance", MaxAttempts: 3}

// Jobs registers the hourly removal of uploads that were left alone for a week.
func (h *Handler) Jobs(r *job.Registry) {
	job.Handle(r, expire, func(ctx context.Context, _ *job.Run, _ struct{}) error { return h.Expire(ctx) })
	job.Schedule(r, "object.expire_uploads", "@every 1h", expire, struct{}{})
}

// Expire removes uploads whose time is over, with their bytes unless a service has consumed them.
func (h *Handler) Expire(ctx context.Context) error {
	var old []Upload
	err := h.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		old, err = db.List(ctx, q, scan, `SELECT `+columns+` FROM object_upload WHERE expires_at < $1 ORDER BY expires_at LIMIT 500`, db.Micro(h.Now()))
		return err
	})
	if err != nil {
		return err
	}
	for _, u := range old {
		if err := h.remove(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// LogValue keeps metadata (file names) out of logs.
func (u Upload) LogValue() slog.Value {
	b, err := json.Marshal(map[string]any{"id": u.ID, "purpose": u.Purpose, "size": u.Size, "offset": u.Offset, "state": u.State})
	if err != nil {
		return slog.StringValue(u.ID)
	}
	return slog.StringValue(string(b))
}
