package dbtest

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"maas/internal/platform/db"
)

// trap is a form of SQL that means different things on the two engines, or works on one only.
type trap struct {
	form    *regexp.Regexp
	instead string
}

func word(s string) *regexp.Regexp { return regexp.MustCompile(`(?i)\b(` + s + `)`) }

var traps = []trap{
	{word(`INTEGER\b|INT\b|SERIAL|BIGSERIAL|AUTOINCREMENT|IDENTITY\b`), "BIGINT, and ids made by package id"},
	{word(`VARCHAR|CHAR\(|REAL\b|FLOAT|NUMERIC|DECIMAL|JSONB?\b|UUID\b|DATETIME|TIMESTAMP|DATE\b|BLOB\b`), "TEXT, BIGINT, DOUBLE PRECISION, BOOLEAN, BYTEA; times as BIGINT by db.Micro"},
	{word(`current_timestamp|current_date|now\(\)|datetime\(|strftime\(|date_trunc\(|julianday\(`), "times from clock, passed as arguments"},
	{word(`ILIKE\b|GLOB\b|REGEXP\b|SIMILAR\b`), "a lower-cased column made in Go"},
	{word(`json_each|json_extract|jsonb_|json_array|generate_series|greatest\(|least\(|array_agg|ARRAY\[`), "Go"},
	{regexp.MustCompile(`(?i)=\s*ANY\s*\(`), "IN (` + db.In(first, n) + `)"},
	{word(`OFFSET\b`), "keyset paging"},
	{word(`INSERT OR |REPLACE INTO|ON DUPLICATE`), "ON CONFLICT (..) DO .."},
	{word(`FOR UPDATE|SKIP LOCKED`), "tx.ForUpdate"},
	{regexp.MustCompile(`(?is)\bWITH\b[^;]*\bAS\s*\(\s*(INSERT|UPDATE|DELETE)\b`), "separate statements"},
	{word(`last_insert_rowid|rowid\b|ctid\b`), "RETURNING, own ids"},
	{regexp.MustCompile(`\?\s*(,|\)|$)`), "$1 placeholders"},
	{regexp.MustCompile(`(?i)\bAVG\s*\(`), "CAST(COALESCE(SUM(n), 0) AS BIGINT) and a count, divided in Go"},
	{regexp.MustCompile(`(?i)(^|[^(])\s*\bSUM\s*\([^)]*\)\s*(,|FROM)`), "CAST(COALESCE(SUM(n), 0) AS BIGINT)"},
}

// LintSQL returns what a portable statement must not hold.
func LintSQL(text string) []string {
	var found []string
	for _, t := range traps {
		if m := t.form.FindString(strings.TrimSpace(stripped(text))); m != "" {
			found = append(found, fmt.Sprintf("%q: write %s", strings.TrimSpace(m), t.instead))
		}
	}
	return found
}

var literals = regexp.MustCompile(`'(?:[^']|'')*'`)

// stripped blanks out string literals, so that words inside them do not count.
func stripped(text string) string { return literals.ReplaceAllString(text, "''") }

var engineParts = regexp.MustCompile(`(?s)-- \+maas (sqlite|postgres).*?-- \+maas end`)

// Lint checks the migrations of a service on both engines: names, types, NOT NULL, a tenant in every table but those named, an index for every foreign key, no engine's own words outside its part, and equal
// tables on both. code is the folder with the service's Go files (".", usually), whose SQL literals are checked too; "" = none.
func Lint(t *testing.T, s Source, code string, noTenant ...string) {
	t.Helper()
	names, _ := fs.Glob(s.FS, "migrations/*.sql") // the pattern is right
	if len(names) == 0 {
		t.Fatalf("%s has no migrations", s.Service)
	}
	for _, name := range names {
		text, err := fs.ReadFile(s.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(engineParts.ReplaceAllString(string(text), ""), "\n") {
			line, _, _ = strings.Cut(line, "--")
			for _, f := range LintSQL(line) {
				t.Errorf("%s:%d: %s", name, n+1, f)
			}
		}
	}
	if code != "" {
		lintCode(t, code)
	}
	lite := tables(t, Open(t, s), s.Service)
	for _, c := range lite {
		for _, f := range c.faults(s.Service, noTenant) {
			t.Errorf("%s: %s", c.Name, f)
		}
	}
	t.Run("equal on postgres", func(t *testing.T) {
		if diff := cmp.Diff(columnsOf(lite), columnsOf(tables(t, OpenPostgres(t, s), s.Service))); diff != "" {
			t.Errorf("the tables differ (-sqlite +postgres):\n%s", diff)
		}
	})
}

type table struct {
	Name    string
	Columns []column
	Indexes []index
	Foreign [][]string
}

type column struct {
	Name, Type string
	NotNull    bool
}

type index struct {
	Name    string
	Unique  bool
	Columns []string
}

func columnsOf(list []table) map[string][]column {
	m := map[string][]column{}
	for _, t := range list {
		cs := slices.Clone(t.Columns)
		slices.SortFunc(cs, func(a, b column) int { return strings.Compare(a.Name, b.Name) })
		m[t.Name] = cs
	}
	return m
}

var allowedTypes = []string{"TEXT", "BIGINT", "DOUBLE PRECISION", "BOOLEAN", "BYTEA"}

func (c table) faults(service string, noTenant []string) (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if !strings.HasPrefix(c.Name, service+"_") {
		say("tables of %s are called %s_<noun>", service, service)
	}
	tenant := false
	for _, col := range c.Columns {
		tenant = tenant || col.Name == "tenant_id" && col.Type == "TEXT" && col.NotNull
		if !slices.Contains(allowedTypes, col.Type) {
			say("column %s has type %s; use %s", col.Name, col.Type, strings.Join(allowedTypes, ", "))
		}
		if !col.NotNull {
			say("column %s may be NULL: '' or 0 says the same", col.Name)
		}
	}
	if !tenant && !slices.Contains(noTenant, c.Name) {
		say("it has no tenant_id TEXT NOT NULL and is not named as one without")
	}
	for _, x := range c.Indexes {
		want := c.Name + "_" + strings.Join(x.Columns, "_") + "_idx"
		if x.Unique {
			want = strings.TrimSuffix(want, "idx") + "key"
		}
		short := strings.HasPrefix(x.Name, c.Name+"_") && (strings.HasSuffix(x.Name, "_key") && x.Unique || strings.HasSuffix(x.Name, "_idx") && !x.Unique)
		if !short {
			say("index %s should be called like %s", x.Name, want)
		}
	}
	for _, f := range c.Foreign {
		if !slices.ContainsFunc(c.Indexes, func(x index) bool { return len(x.Columns) >= len(f) && slices.Equal(x.Columns[:len(f)], f) }) && !slices.Contains(f, "id") {
			say("the foreign key (%s) has no index", strings.Join(f, ", "))
		}
	}
	return found
}

// tables reads the schema of a service.
func tables(t *testing.T, d *db.DB, service string) (list []table) {
	t.Helper()
	err := d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
		names, err := db.List(ctx, q, db.Scalar[string], map[db.Dialect]string{
			db.SQLite:   `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'goose%' ORDER BY name`,
			db.Postgres: `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_name NOT LIKE 'goose%' ORDER BY table_name`,
		}[d.Dialect()])
		if err != nil {
			return err
		}
		for _, n := range names {
			c := table{Name: n}
			scan := func(r db.Row) (c column, err error) {
				err = r.Scan(&c.Name, &c.Type, &c.NotNull)
				c.Type = strings.ToUpper(c.Type)
				return c, err
			}
			c.Columns, err = db.List(ctx, q, scan, map[db.Dialect]string{
				db.SQLite:   `SELECT name, type, "notnull" = 1 FROM pragma_table_info($1) ORDER BY name`,
				db.Postgres: `SELECT column_name, data_type, is_nullable = 'NO' FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1 ORDER BY column_name`,
			}[d.Dialect()], n)
			if err != nil {
				return err
			}
			if d.Dialect() == db.SQLite {
				if err := c.sqlite(ctx, q); err != nil {
					return err
				}
			}
			list = append(list, c)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the schema of %s: %v", service, err)
	}
	return list
}

// sqlite reads indexes (without those of primary keys) and foreign keys.
func (c *table) sqlite(ctx context.Context, q *db.Query) error {
	scan := func(r db.Row) (x index, err error) { return x, r.Scan(&x.Name, &x.Unique) }
	all, err := db.List(ctx, q, scan, `SELECT name, "unique" = 1 FROM pragma_index_list($1)`, c.Name)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.Columns, err = db.List(ctx, q, db.Scalar[string], `SELECT COALESCE(name, 'expr') FROM pragma_index_info($1) ORDER BY seqno`, x.Name); err != nil {
			return err
		}
		if strings.HasPrefix(x.Name, "sqlite_autoindex") { // of a PRIMARY KEY or UNIQUE written in the table
			x.Name, x.Unique = c.Name+"_pkey_key", true
		}
		c.Indexes = append(c.Indexes, x)
	}
	type part struct {
		id   int64
		from string
	}
	parts, err := db.List(ctx, q, func(r db.Row) (p part, err error) { return p, r.Scan(&p.id, &p.from) }, `SELECT id, "from" FROM pragma_foreign_key_list($1) ORDER BY id, seq`, c.Name)
	if err != nil {
		return err
	}
	keys := map[int64][]string{}
	for _, p := range parts {
		keys[p.id] = append(keys[p.id], p.from)
	}
	for _, k := range keys {
		c.Foreign = append(c.Foreign, k)
	}
	return nil
}

var statement = regexp.MustCompile(`(?is)^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s`)

// lintCode checks the SQL literals of the Go files of a folder, but for tests.
func lintCode(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, name, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || !statement.MatchString(text) {
				return true
			}
			for _, f := range LintSQL(text) {
				t.Errorf("%s: %s", fset.Position(lit.Pos()), f)
			}
			return true
		})
	}
}
