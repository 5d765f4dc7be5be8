package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"maas/internal/platform/fault"
	"maas/internal/platform/meter"
	"maas/internal/user"
)

// ErrJournalFull is answered when usage cannot be written down: a request whose usage would be lost does not run.
var ErrJournalFull = fault.New(fault.Unavailable, "gateway.journal_full", "requests cannot be recorded now").WithHint("The server's disk is full or broken")

// rowVersion is the form that is written; rowFirst, without project, provider and price, is read too: a journal may be older than the program.
const (
	rowVersion = 2
	rowFirst   = 1
)

// appendUsage writes a usage row for the journal: a version, then strings and numbers in the order of decodeUsage. No allocation once dst has grown.
func appendUsage(dst []byte, u *user.Usage) []byte {
	dst = append(dst, rowVersion)
	for _, s := range [...]string{u.RequestID, u.ClientRequestID, u.TenantID, u.UserID, u.KeyID, u.Op, u.Model, u.DeploymentID, u.ReplicaID, u.End, u.Source, u.ProjectID, u.ProviderID, u.PriceVersion} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	stream := int64(0)
	if u.Stream {
		stream = 1
	}
	for _, n := range [...]int64{u.At.UnixMicro(), stream, int64(u.Status), int64(u.Attempts), u.InFresh, u.InCache, u.OutText, u.OutReasoning, u.TTFTMS, u.DurationMS} {
		dst = binary.AppendVarint(dst, n)
	}
	for _, l := range u.Lost {
		dst = binary.AppendUvarint(dst, uint64(len(l.ProviderID)))
		dst = append(dst, l.ProviderID...)
		for _, n := range [...]int64{l.InFresh, l.InCache, l.OutText, l.OutReasoning} {
			dst = binary.AppendVarint(dst, n)
		}
	}
	return dst
}

// decodeLost reads what failed attempts used up: the rest of a row, nothing as a rule.
func decodeLost(b []byte) ([]user.Lost, error) {
	var out []user.Lost
	for len(b) > 0 {
		var l user.Lost
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, errRow
		}
		l.ProviderID = string(b[size : size+int(n)]) //nolint:gosec // bounded by len(b)
		b = b[size+int(n):]                          //nolint:gosec // the same
		for _, p := range [...]*int64{&l.InFresh, &l.InCache, &l.OutText, &l.OutReasoning} {
			n, size := binary.Varint(b)
			if size <= 0 {
				return nil, errRow
			}
			*p, b = n, b[size:]
		}
		out = append(out, l)
	}
	return out, nil
}

var errRow = errors.New("usage row of an unknown form")

// decodeUsage reads what appendUsage wrote.
func decodeUsage(b []byte) (user.Usage, error) {
	var u user.Usage
	if len(b) == 0 || b[0] != rowVersion && b[0] != rowFirst {
		return u, errRow
	}
	texts := [...]*string{&u.RequestID, &u.ClientRequestID, &u.TenantID, &u.UserID, &u.KeyID, &u.Op, &u.Model, &u.DeploymentID, &u.ReplicaID, &u.End, &u.Source, &u.ProjectID, &u.ProviderID, &u.PriceVersion}
	known := texts[:]
	if b[0] == rowFirst {
		known = texts[:11]
	}
	b = b[1:]
	for _, s := range known {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return u, errRow
		}
		*s = string(b[size : size+int(n)]) //nolint:gosec // bounded by len(b)
		b = b[size+int(n):]                //nolint:gosec // the same
	}
	var at, stream, status, attempts int64
	for _, p := range [...]*int64{&at, &stream, &status, &attempts, &u.InFresh, &u.InCache, &u.OutText, &u.OutReasoning, &u.TTFTMS, &u.DurationMS} {
		n, size := binary.Varint(b)
		if size <= 0 {
			return u, errRow
		}
		*p, b = n, b[size:]
	}
	u.At, u.Stream, u.Status, u.Attempts = time.UnixMicro(at).UTC(), stream == 1, int(status), int(attempts)
	var err error
	u.Lost, err = decodeLost(b)
	return u, err
}

// settleOrphans closes what a crash left open: the last mark counts, else nothing but the fact that the request ran.
func settleOrphans(j *meter.Journal, orphans []meter.Orphan) int {
	for _, o := range orphans {
		u, err := decodeUsage(o.Open)
		if m, merr := decodeUsage(o.Mark); merr == nil {
			u, err = m, nil
		}
		if err != nil { // an entry of ours that does not read: close it empty, so that it does not come back
			j.Settle(o, nil)
			continue
		}
		u.End, u.Source, u.Status = user.EndNodeCrash, user.SourcePartial, 500
		j.Settle(o, appendUsage(nil, &u))
	}
	return len(orphans)
}

// send books a batch of journal rows. Rows that do not read are left out: no repeat could book them.
func (g *Gateway) send(ctx context.Context, node string, epoch, seq int64, rows [][]byte) error {
	b := user.Batch{Node: node, Epoch: epoch, Seq: seq, Rows: make([]user.Usage, 0, len(rows))}
	for _, r := range rows {
		u, err := decodeUsage(r)
		if err != nil {
			if len(r) > 0 {
				g.metrics.unreadable.Inc()
			}
			continue
		}
		b.Rows = append(b.Rows, u)
	}
	start := time.Now()
	err := g.Users.Record(ctx, b)
	g.metrics.batchSeconds.Observe(time.Since(start).Seconds())
	if errors.Is(err, user.ErrBatchReused) { // a copy of our data folder runs elsewhere under our name
		g.Log.ErrorContext(ctx, "another node uses this node's name; taking a new one", "node", node)
		return errors.Join(err, g.journal.Rename())
	}
	return err
}
