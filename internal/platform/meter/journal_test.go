package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sink books batches the way a receiver does: once per (node, epoch, seq).
type sink struct {
	mu    sync.Mutex
	seen  map[string]bool
	rows  []string
	calls int
	fail  int // calls that book and then answer an error
}

func (s *sink) send(_ context.Context, node string, epoch, seq int64, rows [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	id := fmt.Sprint(node, epoch, seq)
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	if !s.seen[id] {
		s.seen[id] = true
		for _, r := range rows {
			s.rows = append(s.rows, string(r))
		}
	}
	if s.fail > 0 {
		s.fail--
		return errors.New("the answer was lost")
	}
	return nil
}

func TestShipsEachClosedEntryOnce(t *testing.T) {
	t.Parallel()
	j, orphans, err := Open(t.TempDir())
	require.NoError(t, err)
	require.Empty(t, orphans)
	j.most = 4 << 10
	const workers, each = 8, 500
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				e, err := j.Begin([]byte("open"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = e.Mark([]byte("mark"))
				if !e.Close(fmt.Appendf(nil, "row %d/%d", w, i)) || e.Close(nil) {
					t.Error("an entry closes once")
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(workers*each), j.Lag())
	s := &sink{fail: 2}
	require.Error(t, j.Flush(t.Context(), s.send))
	require.Error(t, j.Flush(t.Context(), s.send))
	require.NoError(t, j.Flush(t.Context(), s.send))
	require.Zero(t, j.Lag())
	unique := map[string]bool{}
	for _, r := range s.rows {
		unique[r] = true
	}
	require.Len(t, s.rows, workers*each)
	require.Len(t, unique, workers*each)
	files, err := segmentsIn(j.dir)
	require.NoError(t, err)
	require.LessOrEqual(t, len(files), 2, "shipped segments are removed")
	require.NoError(t, j.Stop())
}

func TestCrashLeavesOrphansWithTheirLastMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, err := Open(dir)
	require.NoError(t, err)
	node, epoch := j.Node()
	a, err := j.Begin([]byte("a"))
	require.NoError(t, err)
	b, err := j.Begin([]byte("b"))
	require.NoError(t, err)
	_, err = j.Begin([]byte("c"))
	require.NoError(t, err)
	require.NoError(t, a.Mark([]byte("a1")))
	require.NoError(t, a.Mark([]byte("a2")))
	require.True(t, b.Close([]byte("B")))
	// no Stop: the process is gone; its last write was torn
	f, err := os.OpenFile(j.path(1), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(appendRecord(nil, kindClose, ref{1, 99}, []byte("torn"))[:20], j.cur.size.Load())
	require.NoError(t, err)
	require.NoError(t, f.Close())

	j2, orphans, err := Open(dir)
	require.NoError(t, err)
	node2, epoch2 := j2.Node()
	require.Equal(t, node, node2)
	require.Equal(t, epoch+1, epoch2)
	require.Len(t, orphans, 2)
	require.Equal(t, "a", string(orphans[0].Open))
	require.Equal(t, "a2", string(orphans[0].Mark))
	require.Equal(t, "c", string(orphans[1].Open))
	require.Nil(t, orphans[1].Mark)
	for _, o := range orphans {
		j2.Settle(o, append([]byte("crash "), o.Open...))
	}
	s := &sink{}
	require.NoError(t, j2.Flush(t.Context(), s.send))
	require.Equal(t, []string{"B", "crash a", "crash c"}, s.rows)
	require.NoError(t, j2.Stop())

	j3, orphans, err := Open(dir)
	require.NoError(t, err)
	require.Empty(t, orphans)
	require.Zero(t, j3.Lag())
	require.NoError(t, j3.Flush(t.Context(), s.send))
	require.Len(t, s.rows, 3)
	require.NoError(t, j3.Stop())
}

func TestDamageIsSteppedOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, err := Open(dir)
	require.NoError(t, err)
	for i := range 10 {
		e, err := j.Begin(nil)
		require.NoError(t, err)
		e.Close(fmt.Appendf(nil, "row %d", i))
	}
	require.NoError(t, j.Stop())
	b, err := os.ReadFile(j.path(1))
	require.NoError(t, err)
	at := bytes.Index(b, []byte("row 4"))
	b[at] ^= 0x20
	require.NoError(t, os.WriteFile(j.path(1), b, 0o600))
	j, orphans, err := Open(dir)
	require.NoError(t, err)
	require.Len(t, orphans, 1, "the entry whose close is damaged")
	s := &sink{}
	require.NoError(t, j.Flush(t.Context(), s.send))
	require.Len(t, s.rows, 9)
	require.NoError(t, j.Stop())
}

func TestFullDiskRefusesNewEntriesAndKeepsClosedOnes(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	j, _, err := Open(t.TempDir())
	require.NoError(t, err)
	e, err := j.Begin([]byte("open"))
	require.NoError(t, err)
	good := j.cur.file
	j.cur.file = full
	j.cur.window.close()
	_, err = j.Begin([]byte("x"))
	require.ErrorIs(t, err, ErrFull)
	require.True(t, e.Close([]byte("row")))
	j.cur.file, j.cur.plain = good, false
	s := &sink{}
	j.writeLate()
	require.NoError(t, j.Flush(t.Context(), s.send))
	require.Equal(t, []string{"row"}, s.rows)
	require.NoError(t, full.Close())
	require.NoError(t, j.Stop())
}

func TestRunShipsWithinSecondsAndAtOnceWhenFull(t *testing.T) {
	t.Parallel()
	j, _, err := Open(t.TempDir())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	got := make(chan int, 100)
	go func() {
		defer close(done)
		_ = j.Run(ctx, func(_ context.Context, _ string, _, _ int64, rows [][]byte) error { got <- len(rows); return nil }, func(error) {})
	}()
	e, err := j.Begin(nil)
	require.NoError(t, err)
	e.Close([]byte("one"))
	select {
	case n := <-got:
		require.Equal(t, 1, n)
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was shipped")
	}
	cancel()
	<-done
	require.NoError(t, j.Stop())
}

// A process that is killed in the middle of its work has lost nothing that it said was closed.
func TestKillLosesNothingThatWasClosed(t *testing.T) {
	if dir := os.Getenv("METER_KILL_DIR"); dir != "" {
		killChild(dir)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKillLosesNothingThatWasClosed$")
	c.Env = append(os.Environ(), "METER_KILL_DIR="+dir)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	var said strings.Builder
	buf := make([]byte, 4096)
	for strings.Count(said.String(), "\n") < 2000 {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		require.NoError(t, err)
	}
	require.NoError(t, c.Process.Kill())
	for {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			break
		}
	}
	_ = c.Wait()
	j, _, err := Open(filepath.Join(dir, "j"))
	require.NoError(t, err)
	s := &sink{}
	require.NoError(t, j.Flush(t.Context(), s.send))
	require.NoError(t, j.Stop())
	have := map[string]int{}
	for _, r := range s.rows {
		have[r]++
	}
	lines := strings.Split(said.String(), "\n")
	for _, l := range lines[:len(lines)-1] {
		require.Equal(t, 1, have[l], l)
	}
}

func killChild(dir string) {
	j, _, err := Open(filepath.Join(dir, "j"))
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		e, err := j.Begin([]byte("open"))
		if err != nil {
			panic(err)
		}
		row := fmt.Sprintf("row %d", i)
		e.Close([]byte(row))
		if _, err := os.Stdout.WriteString(row + "\n"); err != nil {
			return
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, kindOpen, ref{1, 2}, []byte("abc")), kindClose, ref{1, 2}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for at := 0; ; {
			r, skipped, n := nextRecord(b[at:])
			if n == 0 {
				break
			}
			again := appendRecord(nil, r.kind, r.ref, r.payload)
			if !bytes.Equal(again, b[at+skipped:at+skipped+n]) {
				t.Fatalf("%x reads as a record that writes as %x", b[at+skipped:at+skipped+n], again)
			}
			at += skipped + n
		}
	})
}

func BenchmarkEntry(b *testing.B) {
	j, _, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	row := bytes.Repeat([]byte("x"), 200)
	b.ReportAllocs()
	for b.Loop() {
		e, err := j.Begin(row)
		if err != nil {
			b.Fatal(err)
		}
		e.Close(row)
	}
	_ = j.Stop()
}

// A segment of many windows is read back whole, by this process and by one that finds it with zeros at its end; once shipped, its file goes.
func TestManyWindows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, err := Open(dir)
	require.NoError(t, err)
	j.most = 3 << 20
	row := bytes.Repeat([]byte("0123456789abcde\x00"), 60)
	const rows = 8000
	for i := range rows {
		e, err := j.Begin(nil)
		require.NoError(t, err)
		e.Close(append(fmt.Appendf(nil, "%d ", i), row...))
	}
	files, err := segmentsIn(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	// no Stop: the process is gone
	j2, orphans, err := Open(dir)
	require.NoError(t, err)
	require.Empty(t, orphans)
	require.Equal(t, int64(rows), j2.Lag())
	s := &sink{}
	require.NoError(t, j2.Flush(t.Context(), s.send))
	require.Len(t, s.rows, rows)
	for i, r := range s.rows {
		if r != fmt.Sprintf("%d %s", i, row) {
			t.Fatalf("row %d reads %.40q", i, r)
		}
	}
	files, err = segmentsIn(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "shipped segments are removed")
	require.NoError(t, j2.Stop())
	info, err := os.Stat(j2.path(files[0]))
	require.NoError(t, err)
	require.Equal(t, j2.cur.size.Load(), info.Size(), "no zeros are left behind")
}

func TestMovedFolderIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := filepath.Join(dir, "a")
	j, _, err := Open(a)
	require.NoError(t, err)
	require.False(t, j.Moved())
	require.NoError(t, j.Stop())
	require.NoError(t, os.CopyFS(filepath.Join(dir, "b"), os.DirFS(a)))
	require.NoError(t, os.Rename(a, filepath.Join(dir, "c")))
	c, _, err := Open(filepath.Join(dir, "c"))
	require.NoError(t, err)
	require.False(t, c.Moved(), "a renamed folder is the same")
	require.NoError(t, c.Stop())
	b, _, err := Open(filepath.Join(dir, "b"))
	require.NoError(t, err)
	require.True(t, b.Moved(), "a copy is not")
	require.NoError(t, b.Adopt())
	require.False(t, b.Moved())
	require.NoError(t, b.Stop())
	b, _, err = Open(filepath.Join(dir, "b"))
	require.NoError(t, err)
	require.False(t, b.Moved())
	require.NoError(t, b.Stop())
}
