package user

import (
	"context"
	"encoding/json"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

// ErrNodeCopied is answered to a process whose journal bears the name of another that is alive: its folder is a copy.
var ErrNodeCopied = fault.New(fault.Conflict, "user.node_copied", "another process with the same journal is running").WithHint("The data folder was copied from one that is in use. Give each process a folder of its own: remove gateway/journal from the copy")

const (
	nodeAlive = 15 * time.Second // a process that said nothing for this long does not count
	nodeKeep  = 24 * time.Hour
)

// NodeReport is what a process that takes calls says of itself every few seconds.
type NodeReport struct {
	Node    string     `json:"node"`
	Epoch   int64      `json:"epoch"`
	Place   string     `json:"place"` // which folder on which machine holds the journal
	Started time.Time  `json:"started"`
	Limits  NodeLimits `json:"limits"`
}

// NodeLimits is how the limits of a process stand.
type NodeLimits struct {
	Shared      string `json:"shared" enum:"none,redis,away" doc:"Where counters are shared with other processes; away = Redis does not answer"`
	Grantor     string `json:"grantor" enum:"ok,away" doc:"Whether budgets can be asked for"`
	Open        int64  `json:"open" doc:"Admitted calls under way"`
	Unsettled   int64  `json:"unsettled" doc:"More than 0 is a bug"`
	JournalLag  int64  `json:"journal_lag" doc:"Usage rows that are not booked yet"`
	JournalFull bool   `json:"journal_full,omitempty"`
}

// NodeReply tells a process about the others.
type NodeReply struct {
	Nodes int64 `json:"nodes"` // alive, this one included
}

// LiveNode is one process as GET /limits/live shows it.
type LiveNode struct {
	Node      string    `json:"node"`
	Epoch     int64     `json:"epoch"`
	StartedAt time.Time `json:"started_at"`
	SeenAt    time.Time `json:"seen_at"`
	NodeLimits
}

// Node takes the report of a process and tells it how many there are. ErrNodeCopied if another folder holds a journal of this name and its process was alive a moment ago.
func (s *Service) Node(ctx context.Context, r NodeReport) (NodeReply, error) {
	var reply NodeReply
	if r.Node == "" || r.Place == "" {
		return reply, ErrBatch.With("a node has a name and a place")
	}
	b, err := json.Marshal(r.Limits)
	if err != nil {
		return reply, err
	}
	now := s.Now()
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `INSERT INTO user_node (node, epoch, place, report, started_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch, place = excluded.place, report = excluded.report, started_at = excluded.started_at, seen_at = excluded.seen_at
			WHERE user_node.place = excluded.place OR user_node.seen_at < $7`,
			r.Node, r.Epoch, r.Place, string(b), db.Micro(r.Started), db.Micro(now), db.Micro(now.Add(-nodeAlive)))
		if err := db.Guard(n, err, ErrNodeCopied); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM user_node WHERE seen_at < $1`, db.Micro(now.Add(-nodeKeep))); err != nil {
			return err
		}
		reply.Nodes, err = db.One(ctx, tx, db.Scalar[int64], `SELECT COUNT(*) FROM user_node WHERE seen_at >= $1`, db.Micro(now.Add(-nodeAlive)))
		return err
	})
	return reply, err
}

// LiveNodes lists the processes that are alive.
func (s *Service) LiveNodes(ctx context.Context) ([]LiveNode, error) {
	list := []LiveNode{}
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err := db.List(ctx, q, scanNode, `SELECT node, epoch, report, started_at, seen_at FROM user_node WHERE seen_at >= $1 ORDER BY node LIMIT 1000`, db.Micro(s.Now().Add(-nodeAlive)))
		list = append(list, rows...)
		return err
	})
	return list, err
}

func scanNode(r db.Row) (LiveNode, error) {
	var n LiveNode
	var report string
	var started, seen int64
	if err := r.Scan(&n.Node, &n.Epoch, &report, &started, &seen); err != nil {
		return n, err
	}
	n.StartedAt, n.SeenAt = db.FromMicro(started), db.FromMicro(seen)
	return n, json.Unmarshal([]byte(report), &n.NodeLimits)
}
