package db

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Migration is one file of a service and whether it was applied.
type Migration struct {
	Service string    `json:"service"`
	Version int64     `json:"version"`
	File    string    `json:"file"`
	Applied time.Time `json:"applied_at,omitzero"`
}

// Migrate brings the tables of a service up to date. fsys holds migrations/NNNN_name.sql in goose's form; lines between `-- +maas sqlite` or `-- +maas postgres` and `-- +maas end` count on that engine only.
// Forward only. Several processes may call it at once: one works, the others wait and find nothing to do.
func (d *DB) Migrate(ctx context.Context, service string, fsys fs.FS) error {
	err := d.goose(ctx, service, fsys, func(ctx context.Context, p *goose.Provider) error {
		_, err := p.Up(ctx)
		if errors.Is(err, goose.ErrNoMigrations) {
			return nil
		}
		return err
	})
	if err != nil || d.driver.Protect == nil {
		return err
	}
	return d.fault(d.driver.Protect(ctx))
}

// Migrations tells the state of each file of a service.
func (d *DB) Migrations(ctx context.Context, service string, fsys fs.FS) ([]Migration, error) {
	var list []Migration
	err := d.goose(ctx, service, fsys, func(ctx context.Context, p *goose.Provider) error {
		states, err := p.Status(ctx)
		for _, s := range states {
			list = append(list, Migration{service, s.Source.Version, path.Base(s.Source.Path), s.AppliedAt.UTC()})
		}
		return err
	})
	return list, err
}

// CheckSchema returns ErrSchema if a file of the service was not applied, or the database is newer than this program.
func (d *DB) CheckSchema(ctx context.Context, service string, fsys fs.FS) error {
	return d.goose(ctx, service, fsys, func(ctx context.Context, p *goose.Provider) error {
		have, want, err := p.GetVersions(ctx)
		if err != nil {
			return err
		}
		if have < want {
			return ErrSchema.With("the tables of %s are at version %d, this program needs %d", service, have, want).WithHint("Run: maas migrate up")
		}
		return nil
	})
}

func (d *DB) goose(ctx context.Context, service string, fsys fs.FS, f func(context.Context, *goose.Provider) error) error {
	files, err := cut(fsys, d.driver.Dialect)
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", service, err)
	}
	dialect := database.DialectSQLite3
	if d.driver.Dialect == Postgres {
		dialect = database.DialectPostgres
	}
	store, err := database.NewStore(dialect, "goose_"+service)
	if err != nil {
		return err
	}
	err = d.driver.Migrate(ctx, func(ctx context.Context, pool *sql.DB) error {
		p, err := goose.NewProvider("", pool, files, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		return f(ctx, p)
	})
	if err != nil {
		return d.fault(fmt.Errorf("migrate %s: %w", service, err))
	}
	return nil
}

// cut copies the migrations of a service into memory without the lines of other engines.
func cut(fsys fs.FS, dialect Dialect) (fs.FS, error) {
	names, err := fs.Glob(fsys, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	out := memory{}
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		if out[path.Base(name)], err = cutText(text, dialect); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(name), err)
		}
	}
	return out, nil
}

func cutText(text []byte, dialect Dialect) ([]byte, error) {
	var out bytes.Buffer
	only := Dialect("")
	for n, line := range strings.SplitAfter(string(text), "\n") {
		word, ok := strings.CutPrefix(strings.TrimSpace(line), "-- +maas ")
		switch {
		case !ok:
			if only == "" || only == dialect {
				out.WriteString(line)
			}
		case word == "end" && only != "":
			only = ""
		case only == "" && (Dialect(word) == SQLite || Dialect(word) == Postgres):
			only = Dialect(word)
		default:
			return nil, fmt.Errorf("line %d: %q does not fit here", n+1, strings.TrimSpace(line))
		}
	}
	if only != "" {
		return nil, fmt.Errorf("the part for %s has no end", only)
	}
	return out.Bytes(), nil
}
