// Package tus takes resumable uploads by the tus protocol 1.0.0 into a bucket.
package tus

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/object"
)

// Upload is one upload; finished ones are objects in the bucket under Key until Consume takes them or they expire.
type Upload struct {
	ID        string            `json:"id"`
	TenantID  string            `json:"tenant_id"`
	UserID    string            `json:"user_id"`
	Purpose   string            `json:"purpose"`
	Metadata  map[string]string `json:"metadata"`
	Size      int64             `json:"size_bytes"`
	Offset    int64             `json:"offset"`
	SHA256    string            `json:"sha256,omitempty"` // of the whole, once finished
	Key       string            `json:"-"`                // object key: upload/<tenant>/<id>
	State     string            `json:"state"`            // open, finished, consumed
	CreatedAt time.Time         `json:"created_at"`
	ExpiresAt time.Time         `json:"expires_at"`
}

// Purpose is what a service does with uploads of its kind (`Upload-Metadata: purpose <name>`).
type Purpose struct {
	Permission string                                               // needed to create
	MaxSize    int64                                                // 0 = the handler's limit
	Allow      func(ctx context.Context, u Upload) error            // may this begin? before the first byte; nil = yes
	Done       func(ctx context.Context, tx *db.Tx, u Upload) error // in the transaction that marks it finished; nil = nothing
}

// Deps of a Handler.
type Deps struct {
	DB      *db.DB
	Bucket  object.Bucket
	Log     *slog.Logger
	Now     clock.Clock
	Path    string // where it is mounted: /api/v1/uploads
	MaxSize int64  // bytes; 0 = 1 TiB
}

// Handler serves the protocol at Path and Path/{id}. The caller is authenticated before it.
type Handler struct{}

// New makes a Handler.
func New(d Deps) (*Handler, error) { panic("filled next") }

// Purpose registers a purpose. Before serving.
func (h *Handler) Purpose(name string, p Purpose) { panic("filled next") }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("filled next") }

// Get returns an upload of the tenant of ctx; ErrNotFound.
func Get(ctx context.Context, q db.Querier, id string) (Upload, error) { panic("filled next") }

// Consume takes a finished upload over: from then on its object belongs to the caller, who moves it to its own key. ErrNotFound, ErrUnfinished; consuming twice is ErrConsumed.
func Consume(ctx context.Context, tx *db.Tx, id string) (Upload, error) { panic("filled next") }
