package inference

import (
	"context"
	"strconv"

	"maas/internal/platform/db"
	"maas/internal/platform/page"
)

// Transitions lists a deployment's history, newest first.
func (s *Service) Transitions(ctx context.Context, ref, after string, limit int) (page.List[Transition], error) {
	d, _, err := s.find(ctx, ref)
	if err != nil {
		return page.List[Transition]{}, err
	}
	filter := "transitions:" + d.ID
	keys, err := page.Decode(filter, after, 1)
	if err != nil {
		return page.List[Transition]{}, err
	}
	before := d.Seq + 1
	if keys != nil {
		if before, err = strconv.ParseInt(keys[0], 10, 64); err != nil {
			return page.List[Transition]{}, page.ErrBadCursor
		}
	}
	limit = page.Limit(limit)
	var list []Transition
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		list, err = s.store.transitionsBefore(ctx, q, d.ID, before, limit+1)
		return err
	})
	return page.Of(list, limit, filter, func(t Transition) []string { return []string{strconv.FormatInt(t.Seq, 10)} }), err
}

// streamBatch is how many transitions an event stream reads at a time.
const streamBatch = 200

// transitionsSince lists a deployment's history after a sequence number, oldest first.
func (s *Service) transitionsSince(ctx context.Context, deployment string, seq int64) (list []Transition, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		list, err = s.store.transitionsAfter(ctx, q, deployment, seq, streamBatch)
		return err
	})
	return list, err
}
