package job_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/job"
)

const effects = `-- +goose Up
CREATE TABLE effect_row (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, n BIGINT NOT NULL, step TEXT NOT NULL);
CREATE TABLE effect_sum (tenant_id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL);
`

var killKind = job.Kind[args]{Name: "probe.effect", Lane: "probe", Lease: time.Second, MaxAttempts: 1000, Backoff: job.Exp(10*time.Millisecond, 50*time.Millisecond)}

// TestMain turns the test binary into a worker process when it is started as one.
func TestMain(m *testing.M) {
	if url := os.Getenv("JOBTEST_WORKER"); url != "" {
		if err := childWorker(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// childWorker works until it is killed: each entry has two steps, each with a row and a counter as its effect.
func childWorker(url string) error {
	ctx := context.Background()
	var d *db.DB
	for end := time.Now().Add(10 * time.Second); ; {
		var err error
		if d, err = db.Open(ctx, db.Config{URL: url, Sync: "normal"}); err == nil {
			break
		}
		if !errors.Is(err, db.ErrInUse) || time.Now().After(end) { // the killed one's file lock goes when the kernel has cleaned up
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
	r := job.NewRegistry()
	job.Handle(r, killKind, func(ctx context.Context, run *job.Run, p args) error {
		for _, step := range []string{"one", "two"} {
			err := run.Once(ctx, step, func(ctx context.Context, tx *db.Tx) error {
				if _, err := tx.Exec(ctx, `INSERT INTO effect_row (id, tenant_id, n, step) VALUES ($1, $2, $3, $4)`, fmt.Sprintf("%s-%d-%s", run.ID, run.Fence, step), run.TenantID, p.N, step); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, `UPDATE effect_sum SET n = n + 1 WHERE tenant_id = $1`, run.TenantID)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	w := &job.Worker{DB: d, Registry: r, Log: slog.New(slog.DiscardHandler), Lanes: map[string]int{"probe": 4}, Poll: 20 * time.Millisecond, Reap: 100 * time.Millisecond}
	return w.Run(ctx)
}

// Worker processes are killed with SIGKILL over and over while they work; every entry ends and each of its effects is there exactly once.
func TestKilledWorkers(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		url := "sqlite:" + filepath.Join(t.TempDir(), "kill.db")
		fill := func(t *testing.T, f func(*db.DB)) { // one process per file: the test looks in between
			d, err := db.Open(t.Context(), db.Config{URL: url, Sync: "normal"})
			for errors.Is(err, db.ErrInUse) {
				<-time.After(10 * time.Millisecond)
				d, err = db.Open(t.Context(), db.Config{URL: url, Sync: "normal"})
			}
			require.NoError(t, err)
			f(d)
			require.NoError(t, d.Close())
		}
		killWorkers(t, url, 1, 1000, fill)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := dbtest.PostgresURL(t)
		d := dbtest.OpenURL(t, url)
		killWorkers(t, url, 3, 400, func(_ *testing.T, f func(*db.DB)) { f(d) })
	})
}

func killWorkers(t *testing.T, url string, processes, entries int, open func(*testing.T, func(*db.DB))) {
	t.Helper()
	ctx := auth.AsSystem(t.Context(), "t1")
	open(t, func(d *db.DB) {
		require.NoError(t, d.Migrate(ctx, "job", job.Migrations))
		require.NoError(t, d.Migrate(ctx, "effect", fstest.MapFS{"migrations/0001_effect.sql": {Data: []byte(effects)}}))
		require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			for n := range entries {
				if _, err := job.Enqueue(ctx, tx, killKind, args{n}, job.Options{}); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, `INSERT INTO effect_sum (tenant_id, n) VALUES ('t1', 0)`)
			return err
		}))
	})
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "JOBTEST_WORKER="+url)
		var said strings.Builder
		cmd.Stderr = &said
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // a second time does nothing
		t.Cleanup(func() {
			if t.Failed() && said.Len() > 0 {
				t.Log("worker: ", said.String())
			}
		})
		return cmd
	}
	kill := func(c *exec.Cmd) { require.NoError(t, c.Process.Kill()); _ = c.Wait() }
	var live []*exec.Cmd
	for range processes {
		live = append(live, start())
	}
	left := entries
	kills := 0
	for end := time.Now().Add(90 * time.Second); left > 0; {
		require.True(t, time.Now().Before(end), "%d entries have not ended", left)
		<-time.After(300 * time.Millisecond)
		kill(live[0])
		kills++
		live = append(live[1:], start())
		if processes == 1 { // SQLite: look while no worker has the file
			<-time.After(time.Duration(200+kills*20) * time.Millisecond)
			kill(live[0])
		}
		open(t, func(d *db.DB) {
			require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
				dead, err := job.List(ctx, tx, job.Filter{Dead: true}) // killed three times at the same entry: put aside as poison, until someone repeats it
				if err != nil {
					return err
				}
				for _, e := range dead.Items {
					require.Equal(t, "job.poison", e.Error.Code)
					if _, err := job.Retry(ctx, tx, e.ID); err != nil {
						return err
					}
				}
				left, err = db.One(ctx, tx, db.Scalar[int], `SELECT COUNT(*) FROM job_entry WHERE finished_at = 0`)
				return err
			}))
		})
		if processes == 1 {
			live = []*exec.Cmd{start()}
		}
	}
	for _, c := range live {
		kill(c)
	}
	require.Greater(t, kills, 2, "the work was over before anybody was killed")
	open(t, func(d *db.DB) {
		require.NoError(t, d.Read(ctx, func(ctx context.Context, q *db.Query) error {
			count := func(text string) int {
				n, err := db.One(ctx, q, db.Scalar[int], text)
				require.NoError(t, err)
				return n
			}
			require.Equal(t, entries, count(`SELECT COUNT(*) FROM job_entry WHERE state = 'succeeded'`))
			require.Equal(t, 2*entries, count(`SELECT COUNT(*) FROM effect_row`), "each effect once")
			require.Equal(t, 2*entries, count(`SELECT COUNT(*) FROM (SELECT DISTINCT n, step FROM effect_row) x`))
			require.Equal(t, 2*entries, count(`SELECT n FROM effect_sum`))
			t.Logf("%d entries, %d kills, %d takeovers", entries, kills, count(`SELECT CAST(COALESCE(SUM(deaths), 0) AS BIGINT) FROM job_entry`))
			return nil
		}))
	})
}
