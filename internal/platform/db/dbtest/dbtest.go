// Package dbtest gives tests real databases, on both engines, and checks migrations and engines against the rules of package db.
package dbtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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
	url, err := create(t, admin, "")
	if err != nil {
		t.Fatalf("create a database: %v", err)
	}
	return url
}

// create makes a database from a template and has it dropped at the end.
func create(t testing.TB, admin, template string) (string, error) {
	t.Helper()
	name := random("t_")
	url, err := postgres.CreateDatabase(t.Context(), admin, name, template)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := postgres.DropDatabase(context.Background(), admin, name); err != nil {
			t.Logf("drop the database %s: %v", name, err)
		}
	})
	return url, nil
}

func random(prefix string) string {
	var b [6]byte
	_, _ = rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}

// OpenPostgres is Open on a real PostgreSQL. The tables are made once per server and copied for each test.
func OpenPostgres(t testing.TB, tables ...Source) *db.DB {
	t.Helper()
	if len(tables) == 0 {
		return OpenURL(t, PostgresURL(t))
	}
	admin := part.Postgres(t)
	template := "tpl_" + digest(t, tables)
	url, err := create(t, admin, template)
	if err != nil {
		build(t, admin, template, tables)
		if url, err = create(t, admin, template); err != nil {
			t.Fatalf("copy the database %s: %v", template, err)
		}
	}
	return OpenURL(t, url)
}

// digest names a set of migrations by what they hold.
func digest(t testing.TB, tables []Source) string {
	t.Helper()
	h := sha256.New()
	_, _ = io.WriteString(h, "behind the wall 1 ") // templates of programs that built it otherwise are not ours
	for _, s := range tables {
		files, err := fs.Glob(s.FS, "migrations/*.sql")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := fs.ReadFile(s.FS, f)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(h, "%s %s %d %s", s.Service, f, len(text), text)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// build makes the template under another name and renames it when it is whole; of several processes that do so at once, the first wins.
func build(t testing.TB, admin, template string, tables []Source) {
	t.Helper()
	name := random("b_")
	url, err := postgres.CreateDatabase(t.Context(), admin, name, "")
	if err != nil {
		t.Fatalf("create a database: %v", err)
	}
	d, err := db.Open(t.Context(), db.Config{URL: url})
	if err != nil {
		t.Fatalf("open %s: %v", url, err)
	}
	migrated(t, d, tables)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := postgres.RenameDatabase(t.Context(), admin, name, template); err != nil {
		if !errors.Is(err, db.ErrDuplicate) {
			t.Fatalf("name the template: %v", err)
		}
		if err := postgres.DropDatabase(t.Context(), admin, name); err != nil {
			t.Logf("drop the database %s: %v", name, err)
		}
	}
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
