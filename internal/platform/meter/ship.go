package meter

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

const (
	batchMost = 4096
	batchSize = 2 << 20 // bytes of payload in a batch
	shipEvery = time.Second
	syncEvery = 200 * time.Millisecond
	readChunk = 4 << 20
)

// Send books a batch; it is called again with the same batch until it returns nil. Rows are the payloads given to Close, oldest first.
type Send func(ctx context.Context, node string, epoch, seq int64, rows [][]byte) error

// Run ships closed records until ctx ends: every second, or at once when a batch is full; and brings what was written to the disk. failed is told of errors of send (and nil after a success) and must be quick.
func (j *Journal) Run(ctx context.Context, send Send, failed func(error)) error {
	ship, disk := time.NewTicker(shipEvery), time.NewTicker(syncEvery)
	defer ship.Stop()
	defer disk.Stop()
	wait := shipEvery
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-disk.C:
			j.sync()
			continue
		case <-ship.C:
		case <-j.wake:
		}
		j.writeLate()
		if time.Since(since) < wait-shipEvery/2 {
			continue
		}
		err := j.Flush(ctx, send)
		failed(err)
		since = time.Now()
		if err == nil {
			wait = 0
		} else {
			wait = min(max(2*wait, shipEvery), 30*time.Second)
		}
	}
}

func (j *Journal) sync() {
	if !j.dirty.Swap(false) {
		return
	}
	j.mu.Lock()
	f, closed := j.cur.file, j.closed
	j.mu.Unlock()
	if !closed && f.Sync() != nil {
		j.dirty.Store(true)
	}
}

// Flush ships all that is closed now.
func (j *Journal) Flush(ctx context.Context, send Send) error {
	j.shipping.Lock()
	defer j.shipping.Unlock()
	for j.lag.Load() > 0 {
		n, err := j.shipOne(ctx, send)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	return j.trim()
}

// shipOne sends the next batch and moves the cursor behind it. It returns the rows sent.
func (j *Journal) shipOne(ctx context.Context, send Send) (int, error) {
	j.mu.Lock()
	at, node, epoch := j.state, j.state.Node, j.state.Epoch
	segments := append([]*segment(nil), j.all...)
	j.mu.Unlock()
	var rows [][]byte
	size := 0
	for _, s := range segments {
		if s.number < at.Segment {
			continue
		}
		if s.number > at.Segment {
			at.Segment, at.Offset = s.number, 0
		}
		for len(rows) < batchMost && size < batchSize && at.Offset < s.size.Load() {
			read, err := collect(s, &at, &rows, &size)
			if err != nil {
				return 0, err
			}
			if read == 0 {
				break
			}
		}
		if len(rows) >= batchMost || size >= batchSize {
			break
		}
	}
	if len(rows) == 0 {
		return 0, nil
	}
	seq := j.seq + 1
	if err := send(ctx, node, int64(epoch), int64(seq), rows); err != nil { //nolint:gosec // counters
		return 0, err
	}
	j.seq = seq
	j.lag.Add(-int64(len(rows)))
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.Segment, j.state.Offset = at.Segment, at.Offset
	return len(rows), j.saveState()
}

// collect reads a piece of a segment from the cursor on and takes the closed records out of it.
func collect(s *segment, at *state, rows *[][]byte, size *int) (int, error) {
	b := make([]byte, min(s.size.Load()-at.Offset, readChunk))
	n, err := s.file.ReadAt(b, at.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	b = b[:n]
	used := 0
	for len(*rows) < batchMost && *size < batchSize {
		r, skipped, n := nextRecord(b[used:])
		if n == 0 {
			if used == 0 && len(b) == readChunk { // megabytes of damage: go on behind them
				used = len(b) - headSize - maxPayload
			}
			break
		}
		used += skipped + n
		if r.kind == kindClose {
			*rows = append(*rows, r.payload)
			*size += len(r.payload)
		}
	}
	at.Offset += int64(used)
	return used, nil
}

// trim removes segments that are shipped as a whole and hold no entry under way.
func (j *Journal) trim() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	keep := j.all[:0]
	var errs error
	for _, s := range j.all {
		done := s != j.cur && s.open.Load() == 0 && (s.number < j.state.Segment || s.number == j.state.Segment && j.state.Offset >= s.size.Load())
		if !done {
			keep = append(keep, s)
			continue
		}
		errs = errors.Join(errs, j.cur.file.Sync()) // what settles this file's orphans must be on the disk before it goes
		errs = errors.Join(errs, s.file.Close(), os.Remove(j.path(s.number)))
	}
	clear(j.all[len(keep):])
	j.all = keep
	return errs
}
