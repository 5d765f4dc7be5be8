package meter

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"maas/internal/platform/fault"
)

// The errors of a journal.
var (
	ErrFull   = fault.New(fault.Unavailable, "meter.journal_full", "usage cannot be written down now")
	ErrClosed = fault.New(fault.Unavailable, "meter.journal_closed", "the usage journal is closed")
)

const (
	segmentMost = 64 << 20
	suffix      = ".journal"
	stateName   = "state.json"
	lateMost    = 100_000 // closed records held in memory while the disk is full
)

// state is what survives a restart beside the segments. It is replaced as a whole.
type state struct {
	Node    string `json:"node"`
	Epoch   uint64 `json:"epoch"`
	Segment uint64 `json:"segment"` // shipped up to here:
	Offset  int64  `json:"offset"`
	Place   string `json:"place,omitempty"` // of the folder: see Journal.Place
}

// segment is one file of the journal.
type segment struct {
	number uint64
	file   *os.File
	size   atomic.Int64 // bytes written
	open   atomic.Int64 // entries opened in it and not closed: the file stays for them
	window window       // where the next records go
	plain  bool         // records are written, not copied into the window: the file ends with the last record
}

// Journal is the local memory of consumption. Begin, Mark and Close may be called from any goroutine.
type Journal struct {
	dir   string
	entry atomic.Uint64
	lag   atomic.Int64 // closed and not shipped
	dirty atomic.Bool  // written since the last sync

	shipping sync.Mutex // one batch at a time; taken before mu. Guards seq
	seq      uint64     // of the last batch in this epoch

	mu     sync.Mutex // guards the rest
	cur    *segment
	all    []*segment // oldest first, cur last
	state  state
	buf    []byte
	late   []lateRecord
	closed bool
	moved  bool // the folder was last opened at another place
	wake   chan struct{}
	most   int64 // bytes of a segment before the next begins
}

type lateRecord struct {
	ref     ref
	payload []byte
}

// Entry is one request under way. Its methods may be called from one goroutine at a time.
type Entry struct {
	j    *Journal
	ref  ref
	seg  *segment
	done bool
}

// Orphan is an entry that a crash left open.
type Orphan struct {
	Open, Mark []byte // payloads; Mark is nil if there was none
	ref        ref
}

// Open opens the journal in dir, makes it if needed, begins a new epoch and returns what the last process left open. One process may have it open at a time.
func Open(dir string) (*Journal, []Orphan, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	j := &Journal{dir: dir, wake: make(chan struct{}, 1), most: segmentMost}
	if err := j.loadState(); err != nil {
		return nil, nil, err
	}
	numbers, err := segmentsIn(dir)
	if err != nil {
		return nil, nil, err
	}
	orphans, err := j.recover(numbers)
	if err != nil {
		return nil, nil, err
	}
	next := uint64(1)
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	next = max(next, j.state.Segment+1)
	if err := j.newSegment(next); err != nil {
		return nil, nil, err
	}
	j.state.Epoch++
	if place := j.Place(); j.state.Place != "" && j.state.Place != place {
		j.moved = true
	} else {
		j.state.Place = place
	}
	return j, orphans, j.saveState()
}

func (j *Journal) loadState() error {
	b, err := os.ReadFile(filepath.Join(j.dir, stateName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.state.Node = newNode()
		return nil
	case err != nil:
		return err
	}
	if err := json.Unmarshal(b, &j.state); err != nil || j.state.Node == "" {
		return fmt.Errorf("read %s: %w", stateName, errors.Join(err, fs.ErrInvalid))
	}
	return nil
}

func newNode() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return "node_" + hex.EncodeToString(b[:])
}

// saveState replaces the state file. The caller holds mu or is Open.
func (j *Journal) saveState() error {
	b, err := json.Marshal(j.state)
	if err != nil {
		return err
	}
	tmp := filepath.Join(j.dir, stateName+".tmp")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(j.dir, stateName))
}

func segmentsIn(dir string) ([]uint64, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range list {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			if n, err := strconv.ParseUint(name, 10, 64); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (j *Journal) path(n uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%012d%s", n, suffix))
}

func (j *Journal) newSegment(n uint64) error {
	f, err := os.OpenFile(j.path(n), os.O_CREATE|os.O_RDWR|os.O_APPEND|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	j.cur = &segment{number: n, file: f}
	j.all = append(j.all, j.cur)
	return nil
}

// recover reads the segments of earlier starts: what is open becomes an orphan, what is closed and not shipped counts as lag.
func (j *Journal) recover(numbers []uint64) ([]Orphan, error) {
	open := map[ref]*Orphan{}
	var order []ref
	for _, n := range numbers {
		b, err := os.ReadFile(j.path(n))
		if err != nil {
			return nil, err
		}
		last := 0 // end of the last record; behind it are zeros, or what a crash left torn
		for at := 0; ; {
			r, skipped, size := nextRecord(b[at:])
			if size == 0 {
				break
			}
			at += skipped
			last = at + size
			switch r.kind {
			case kindOpen:
				open[r.ref] = &Orphan{Open: slices.Clone(r.payload), ref: r.ref}
				order = append(order, r.ref)
			case kindMark:
				if o := open[r.ref]; o != nil {
					o.Mark = slices.Clone(r.payload)
				}
			case kindClose:
				delete(open, r.ref)
				if n > j.state.Segment || n == j.state.Segment && int64(at) >= j.state.Offset {
					j.lag.Add(1)
				}
			}
			at += size
		}
		f, err := os.Open(j.path(n))
		if err != nil {
			return nil, err
		}
		s := &segment{number: n, file: f, plain: true}
		s.size.Store(int64(last))
		j.all = append(j.all, s)
	}
	var orphans []Orphan
	for _, r := range order {
		if o := open[r]; o != nil {
			orphans = append(orphans, *o)
		}
	}
	return orphans, nil
}

// append writes one record with one write. The caller holds mu.
func (j *Journal) append(k kind, r ref, payload []byte) error {
	if j.closed {
		return ErrClosed
	}
	if len(payload) > maxPayload {
		return fault.ErrInternal.With("a usage record is over %d bytes", maxPayload)
	}
	if j.cur.size.Load() > j.most {
		full := j.cur
		if err := j.newSegment(j.cur.number + 1); err != nil {
			return ErrFull.Wrap(err)
		}
		_ = full.end() // zeros at its end cost nothing but space until it is shipped
	}
	j.buf = appendRecord(j.buf[:0], k, r, payload)
	if err := j.cur.write(j.buf); err != nil {
		return ErrFull.Wrap(err)
	}
	j.dirty.Store(true)
	return nil
}

// write puts a record behind the last one. The file may be longer, with zeros; size counts what is written.
func (s *segment) write(b []byte) error {
	at := s.size.Load()
	if !s.plain {
		room := s.window.room(at, len(b))
		if room == nil {
			err := s.window.open(s.file, at)
			switch {
			case errors.Is(err, errors.ErrUnsupported):
				if err := s.file.Truncate(at); err != nil {
					return err
				}
				s.plain = true
			case err != nil:
				return err
			default:
				room = s.window.room(at, len(b))
			}
		}
		if room != nil {
			copy(room, b)
			s.size.Add(int64(len(b)))
			return nil
		}
	}
	n, err := s.file.Write(b)
	s.size.Add(int64(n)) // a torn record stays and is stepped over
	return err
}

// end gives back the memory of a segment that gets no more records, and cuts the zeros off.
func (s *segment) end() error {
	s.window.close()
	if s.plain {
		return nil
	}
	s.plain = true
	return s.file.Truncate(s.size.Load())
}

// Begin opens an entry: ErrFull when it cannot be written, and then the request must not run.
func (j *Journal) Begin(payload []byte) (*Entry, error) {
	e := &Entry{j: j}
	j.mu.Lock()
	defer j.mu.Unlock()
	e.ref = ref{j.state.Epoch, j.entry.Add(1)}
	if err := j.append(kindOpen, e.ref, payload); err != nil {
		return nil, err
	}
	e.seg = j.cur
	e.seg.open.Add(1)
	return e, nil
}

// Mark notes how far the entry has come, for the case that the process dies.
func (e *Entry) Mark(payload []byte) error {
	e.j.mu.Lock()
	defer e.j.mu.Unlock()
	return e.j.append(kindMark, e.ref, payload)
}

// Close ends the entry with what is to be booked. It reports false if the entry was closed before: then it changed nothing. A record that the disk does not take is held in memory and written later.
func (e *Entry) Close(payload []byte) bool {
	if e.done {
		return false
	}
	e.done = true
	e.j.close(e.ref, payload)
	e.seg.open.Add(-1)
	return true
}

// Settle closes an orphan.
func (j *Journal) Settle(o Orphan, payload []byte) { j.close(o.ref, payload) }

func (j *Journal) close(r ref, payload []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(kindClose, r, payload); err != nil {
		if len(j.late) < lateMost {
			j.late = append(j.late, lateRecord{r, slices.Clone(payload)})
		}
		return
	}
	if j.lag.Add(1) == batchMost {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
}

// writeLate tries again what the disk did not take.
func (j *Journal) writeLate() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.late) > 0 {
		if j.append(kindClose, j.late[0].ref, j.late[0].payload) != nil {
			return
		}
		j.lag.Add(1)
		j.late = j.late[1:]
	}
}

// Node and epoch of this start.
func (j *Journal) Node() (string, int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.Node, int64(j.state.Epoch) //nolint:gosec // a counter of starts
}

// Rename gives the node a new name: its old one turned out to be used by a copy of this folder.
func (j *Journal) Rename() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.Node = newNode()
	return j.saveState()
}

// Lag is the number of closed records that are not shipped; Bytes the size of the segments.
func (j *Journal) Lag() int64 { return j.lag.Load() }

// Bytes is the size of all segments.
func (j *Journal) Bytes() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var n int64
	for _, s := range j.all {
		n += s.size.Load()
	}
	return n
}

// Stop closes the files. What was closed and not shipped is shipped by the next process.
func (j *Journal) Stop() error {
	j.writeLate()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	err := j.cur.end()
	err = errors.Join(err, j.cur.file.Sync())
	for _, s := range j.all {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
