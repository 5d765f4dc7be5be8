package maas

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/object"
	"maas/internal/platform/seal"
	"maas/internal/user"
)

// ErrSchema is a schema with migrations that have not run.
var ErrSchema = fault.New(fault.Conflict, "maas.schema_outdated", "migrations are missing").WithHint("maas migrate up")

// Migration is one step of a schema.
type Migration struct {
	Service string `json:"service"`
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

// Migrate lists the migrations of every schema. verb "up" runs what is missing first, "check" answers ErrSchema when something is.
func Migrate(ctx context.Context, c Config, verb string) ([]Migration, error) {
	d, err := db.Open(ctx, db.Config(c.Database))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var all []Migration
	missing := 0
	for _, m := range migrations() {
		if verb == "up" {
			if err := d.Migrate(ctx, m.service, m.files); err != nil {
				return nil, err
			}
		}
		steps, err := d.Migrations(ctx, m.service, m.files)
		if err != nil {
			return nil, err
		}
		for _, s := range steps {
			all = append(all, Migration{m.service, s.Version, s.File, !s.Applied.IsZero()})
			if s.Applied.IsZero() {
				missing++
			}
		}
	}
	if verb == "check" && missing > 0 {
		return all, ErrSchema.With("%d migrations are missing", missing)
	}
	return all, nil
}

// Finding is what the doctor saw of one part.
type Finding struct {
	Part   string `json:"part"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Doctor checks the parts of an installation that does not run: data folder, database and schema, files, keys, engine.
func Doctor(ctx context.Context, c Config) []Finding {
	var all []Finding
	say := func(part, detail string, err error) bool {
		f := Finding{Part: part, OK: err == nil, Detail: detail}
		if err != nil {
			e := fault.From(err)
			f.Detail, f.Hint = e.Text()+" ("+e.Code+")", e.Hint
		}
		all = append(all, f)
		return f.OK
	}
	say("data folder", c.Data, writable(c.Data))
	d, err := db.Open(ctx, db.Config(c.Database))
	if say("database", scheme(c.Database.URL), err) {
		defer d.Close()
		if d.Dialect() == db.Postgres {
			say("row-level security", map[bool]string{true: "on", false: "off: tenants are kept apart by the queries alone (database.rls)"}[d.Walled()], nil)
		}
		for _, m := range migrations() {
			say("schema "+m.service, "up to date", d.CheckSchema(ctx, m.service, m.files))
		}
		_, err = seal.Open(ctx, seal.Config{Keys: c.Seal.Keys}, d)
		say("master key", "opens this database", err)
	}
	b, err := object.Open(ctx, object.Config{URL: c.Objects.URL, MinFree: c.Objects.MinFree})
	if say("files", c.Objects.URL, err) {
		_ = b.Close() // nothing was written
	}
	say("engine", "the native engine starts", engineStarts(ctx))
	return all
}

func scheme(url string) string {
	s, _, _ := strings.Cut(url, ":")
	return s
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return ErrDataDir.With("%v", err)
	}
	name := f.Name()
	if err := f.Close(); err != nil {
		return ErrDataDir.With("%v", err)
	}
	return os.Remove(name)
}

// engineStarts runs the worker without a configuration: it must start and say so by its exit code.
func engineStarts(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "worker", "engine")
	cmd.Dir = filepath.Dir(self)
	cmd.Stdin = strings.NewReader("{}\n")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2 {
		return fault.ErrInternal.With("the engine process did not start: %v %s", err, out)
	}
	return nil
}

// DoctorLedger checks the books in the database of an installation that does not run.
func DoctorLedger(ctx context.Context, c Config) (user.LedgerReport, error) {
	d, err := db.Open(ctx, db.Config(c.Database))
	if err != nil {
		return user.LedgerReport{}, err
	}
	defer d.Close()
	if err := d.CheckSchema(ctx, "user", user.Migrations); err != nil {
		return user.LedgerReport{}, err
	}
	return user.VerifyLedger(ctx, d, clock.Now())
}
