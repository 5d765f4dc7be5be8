// Package dbtest gives tests real databases, on both engines, and checks migrations and engines against the rules of package db.
package dbtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"path/filepath"
	"testing"

	"maas/internal/maastest/part"
	"maas/internal/platform/db"
	"maas/internal/platform/db/postgres"
	_ "maas/internal/platform/db/sqlite" // the scheme sqlite:
)

// Source is one set of migrations for Open and Each.
type Source struct {
	Service string
	FS      fs.FS
}

// Open gives an SQLite database in the test's folder, with the tables of these sources, closed at the end.
func Open(t testing.TB, tables ...Source) *db.DB {
	t.Helper()
	return migrated(t, OpenURL(t, "sqlite:"+filepath.Join(t.TempDir(), "maas.db")), tables)
}

// OpenURL opens a database and closes it at the end of the test.
func OpenURL(t testing.TB, url string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: url, Sync: "normal"})
	if err != nil {
		t.Fatalf("open %s: %v", url, err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", url, err)
		}
	})
	return d
}

// PostgresURL gives the URL of an empty database of its own on a real PostgreSQL, dropped at the end. Without PostgreSQL the test is skipped, or fails when MAAS_TEST_STRICT=1.
func PostgresURL(t testing.TB) string {
	t.Helper()
	admin := part.Postgres(t)
	var b [6]byte
	_, _ = rand.Read(b[:])
	name := "t_" + hex.EncodeToString(b[:])
	url, err := postgres.CreateDatabase(t.Context(), admin, name, "")
	if err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := postgres.DropDatabase(context.Background(), admin, name); err != nil {
			t.Logf("drop the database %s: %v", name, err)
		}
	})
	return url
}

// OpenPostgres is Open on a real PostgreSQL.
func OpenPostgres(t testing.TB, tables ...Source) *db.DB {
	t.Helper()
	return migrated(t, OpenURL(t, PostgresURL(t)), tables)
}

// Each runs f on both engines, side by side, each time on a database of its own with the tables of these sources.
func Each(t *testing.T, f func(t *testing.T, d *db.DB), tables ...Source) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, Open(t, tables...)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, OpenPostgres(t, tables...)) })
}

func migrated(t testing.TB, d *db.DB, tables []Source) *db.DB {
	t.Helper()
	for _, s := range tables {
		if err := d.Migrate(t.Context(), s.Service, s.FS); err != nil {
			t.Fatalf("migrate %s: %v", s.Service, err)
		}
	}
	return d
}
