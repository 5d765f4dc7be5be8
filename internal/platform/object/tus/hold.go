package tus

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/id"
)

const (
	hold    = 6 * time.Second // a request that sends bytes holds the upload for so long at a time
	stalled = 2 * time.Second // without bytes, a newer request may take over
)

// request is one that is writing an upload in this process.
type request struct {
	holder string
	last   atomic.Int64 // nanoseconds since 1970: the last byte
	push   func()       // ends its body
	done   chan struct{}
}

type active struct {
	mu       sync.Mutex // guards requests
	requests map[string]*request
}

// hold makes this request the one that writes an upload. ErrLocked if another one is and bytes arrive there. release ends it.
func (h *Handler) hold(ctx context.Context, w http.ResponseWriter, uploadID string) (me *request, release func(), err error) {
	me = &request{holder: h.boot + "." + id.New("hold"), done: make(chan struct{})}
	me.last.Store(time.Now().UnixNano())
	me.push = func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now()) } // a writer without deadlines stays until its client goes
	for range 2 {
		err = h.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			now := h.Now()
			n, err := tx.Exec(ctx, `UPDATE object_upload SET holder = $2, held_until = $3 WHERE id = $1 AND (holder = '' OR held_until < $4 OR $5 AND SUBSTR(holder, 1, $6) <> $7)`,
				uploadID, me.holder, db.Micro(now.Add(hold)), db.Micro(now), h.DB.Dialect() == db.SQLite, len(h.boot), h.boot) // on SQLite there is one process: a hold of another life is none
			return db.Guard(n, err, ErrLocked)
		})
		if err == nil || !h.pushAside(ctx, uploadID) {
			break
		}
	}
	if err != nil {
		return nil, nil, err
	}
	h.active.mu.Lock()
	before := h.active.requests[uploadID] // lost its hold, but may not know it yet
	h.active.requests[uploadID] = me
	h.active.mu.Unlock()
	if before != nil {
		before.push()
		<-before.done
	}
	var renewing sync.WaitGroup
	renewing.Go(func() { h.renew(context.WithoutCancel(ctx), uploadID, me) })
	return me, func() {
		h.active.mu.Lock()
		if h.active.requests[uploadID] == me {
			delete(h.active.requests, uploadID)
		}
		h.active.mu.Unlock()
		err := h.DB.System().Tx(context.WithoutCancel(ctx), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE object_upload SET holder = '', held_until = 0 WHERE id = $1 AND holder = $2`, uploadID, me.holder)
			return err
		})
		if err != nil {
			h.Log.WarnContext(ctx, "an upload stays locked for a few seconds", "upload", uploadID, "error", err)
		}
		close(me.done)
		renewing.Wait()
	}, nil
}

// pushAside ends a request of this process that holds the upload without getting bytes; true when it is gone.
func (h *Handler) pushAside(ctx context.Context, uploadID string) bool {
	h.active.mu.Lock()
	other := h.active.requests[uploadID]
	h.active.mu.Unlock()
	if other == nil || time.Since(time.Unix(0, other.last.Load())) < stalled {
		return false
	}
	other.push()
	select {
	case <-other.done:
		return true
	case <-time.After(5 * time.Second):
		return false
	case <-ctx.Done():
		return false
	}
}

// renew keeps the hold while bytes arrive, and ends a request that has lost it: two must not write the same bytes.
func (h *Handler) renew(ctx context.Context, uploadID string, me *request) {
	t := time.NewTicker(hold / 4)
	defer t.Stop()
	for seen := me.last.Load(); ; {
		select {
		case <-me.done:
			return
		case <-t.C:
		}
		last := me.last.Load()
		if time.Since(time.Unix(0, last)) > hold*3/4 {
			me.push()
		}
		if last != seen {
			seen = last
			err := h.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
				n, err := tx.Exec(ctx, `UPDATE object_upload SET held_until = $3 WHERE id = $1 AND holder = $2`, uploadID, me.holder, db.Micro(h.Now().Add(hold)))
				return db.Guard(n, err, ErrLocked)
			})
			if err != nil {
				me.push()
				h.Log.WarnContext(ctx, "the hold on an upload could not be renewed", "upload", uploadID, "error", err)
			}
		}
	}
}
