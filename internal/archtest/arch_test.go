// Package archtest holds the rules of the tree as a test: who may import whom, which file may import what, and how large things may grow.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// asks is the DAG of services: whom a service may ask, through the other's root package only.
var asks = map[string][]string{
	"user":      {},
	"model":     {"user"},
	"inference": {"model", "user"},
	"knowledge": {"inference", "model", "user"},
	"app":       {"knowledge", "inference", "model", "user"},
	"finetune":  {"model", "inference", "user"},
	"gateway":   {"user", "inference"},
	"ops":       {"user"},
	"console":   {},
}

// clients are the client libraries of outside systems and where they may appear.
var clients = map[string][]string{
	"github.com/jackc/pgx":          {"internal/platform/db/postgres"},
	"modernc.org/sqlite":            {"internal/platform/db/sqlite"},
	"github.com/redis/go-redis":     {"internal/platform/cache/redis"},
	"github.com/rabbitmq/amqp091":   {"internal/platform/event/rabbitmq"},
	"github.com/minio/minio-go":     {"internal/platform/object/s3"},
	"k8s.io/client-go":              {"internal/inference/engine/kubernetes", "internal/finetune/trainer/kubernetes"},
	"github.com/danielgtaylor/huma": {"internal/platform/web"},
}

type file struct {
	path    string // slash-separated, relative to the root of the repository
	dir     string
	name    string
	test    bool
	ast     *ast.File
	fset    *token.FileSet
	imports []string
	written bool // by hand
	lines   int
}

func load(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != root && (strings.HasPrefix(n, ".") || n == "node_modules" || n == "testdata" || n == "dist" || n == "data") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && filepath.Clean(path) != filepath.Clean(root) {
				return filepath.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		f := file{path: filepath.ToSlash(rel), name: d.Name(), test: strings.HasSuffix(path, "_test.go"), ast: tree, fset: fset, written: !ast.IsGenerated(tree), lines: strings.Count(string(src), "\n")}
		f.dir = filepath.ToSlash(filepath.Dir(rel))
		for _, i := range tree.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(files), 50, "the tree was not found")
	return files
}

// service returns the service a folder belongs to ("" = none) and whether it is the service's root package.
func service(dir string) (name string, isRoot bool) {
	rest, ok := strings.CutPrefix(dir, "internal/")
	if !ok {
		return "", false
	}
	name, sub, _ := strings.Cut(rest, "/")
	if _, ok := asks[name]; !ok {
		return "", false
	}
	return name, sub == ""
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, f := range load(t) {
		for _, imp := range f.imports {
			if why := forbidden(f, imp); why != "" {
				t.Errorf("%s imports %s: %s", f.path, imp, why)
			}
		}
	}
}

func forbidden(f file, imp string) string {
	for lib, places := range clients {
		if strings.HasPrefix(imp, lib) && !f.test && !slices.ContainsFunc(places, func(p string) bool { return strings.HasPrefix(f.dir, p) }) {
			return "only " + strings.Join(places, ", ") + " may name this library"
		}
	}
	if imp == "database/sql" && !f.test && !strings.HasPrefix(f.dir, "internal/platform/db") {
		return "only platform/db holds *sql.DB"
	}
	target, ok := strings.CutPrefix(imp, "maas/")
	if !ok {
		return ""
	}
	if why := layer(f, target); why != "" {
		return why
	}
	return fileRule(f, target)
}

func layer(f file, target string) string {
	floor := strings.HasPrefix(f.dir, "internal/platform/") || strings.HasPrefix(f.dir, "internal/llm/") || f.dir == "internal/llm"
	to, toRoot := service(target)
	from, _ := service(f.dir)
	edge := strings.HasPrefix(f.dir, "internal/cli") || strings.HasPrefix(f.dir, "internal/maas") || strings.HasPrefix(f.dir, "cmd/") || strings.HasPrefix(f.dir, "test/") || strings.HasPrefix(f.dir, "tools/") || strings.HasPrefix(f.dir, "bench")
	switch {
	case floor && !f.test && (to != "" || target == "internal/maas" || target == "internal/cli"):
		return "platform and llm know no service"
	case strings.HasPrefix(f.dir, "internal/platform/") && strings.HasPrefix(target, "internal/llm"):
		return "platform does not know the language model core"
	case strings.HasPrefix(f.dir, "internal/llm") && strings.HasPrefix(target, "internal/platform/") && target != "internal/platform/fault" && !f.test:
		return "of platform, llm imports fault only"
	case (target == "internal/maas" || target == "internal/cli") && !edge && !f.test:
		return "only the command line and tests import it"
	case from != "" && to != "" && from != to && !f.test:
		if !slices.Contains(asks[from], to) {
			return from + " does not ask " + to
		}
		if !toRoot && !shared(target) {
			return "of another service, only the root package"
		}
	case from != "" && from == to && toRoot && f.dir != target && !f.test:
		return "children never import the parent"
	}
	if strings.HasPrefix(target, "internal/platform/db/") && !strings.HasPrefix(target, "internal/platform/db/dbtest") && f.dir != "internal/platform/backends" && !f.test && !strings.HasPrefix(f.dir, "internal/platform/db") && !strings.HasPrefix(f.dir, "internal/maastest") {
		return "drivers are imported by platform/backends"
	}
	return ""
}

// shared are children with a vocabulary that others speak too: the engine's endpoint, which the router hands to the gateway, and the wire shapes.
func shared(target string) bool {
	return target == "internal/inference/engine" || target == "internal/inference/dialect"
}

// fileRule: the hexagon is drawn with file names.
func fileRule(f file, target string) string {
	if _, isRoot := service(f.dir); !isRoot || f.test {
		return ""
	}
	bad := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return target == "internal/platform/"+p })
	}
	switch {
	case f.name == "api.go" && bad("db", "web", "job", "object", "rpc"):
		return "api.go holds what others may ask: types and errors"
	case strings.HasPrefix(f.name, "http") && bad("db", "job", "object"):
		return "http files hold shapes and permissions; storage is the service's"
	case strings.HasPrefix(f.name, "store") && bad("web", "job", "rpc"):
		return "store files hold SQL"
	}
	return ""
}

func TestSizes(t *testing.T) {
	t.Parallel()
	packages := map[string]int{}
	for _, f := range load(t) {
		if f.test || !f.written {
			continue
		}
		packages[f.dir] += f.lines
		if f.lines > 800 {
			t.Errorf("%s has %d lines, over 800: split it", f.path, f.lines)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body != nil {
					if lines := f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1; lines > 100 {
						t.Errorf("%s: %s has %d lines, over 100", f.path, n.Name.Name, lines)
					}
				}
			case *ast.InterfaceType:
				if n.Methods != nil && n.Methods.NumFields() > 10 {
					t.Errorf("%s: an interface of %d methods at line %d, over 10", f.path, n.Methods.NumFields(), f.fset.Position(n.Pos()).Line)
				}
			}
			return true
		})
	}
	for dir, lines := range packages {
		most := 10_000
		if dir == "internal/user" { // accounts, teams, money and limits meet in one transaction and one feed; parts with words of their own (ledger, invoice, letters, login) are children
			most = 16_500
		}
		if lines > most {
			t.Errorf("%s has %d lines, over %d: split it", dir, lines, most)
		}
	}
}

// bans are calls that do not belong where they stand.
var bans = []struct {
	call, why string
	allowed   []string
}{
	{"os.Getenv", "only platform/config reads the environment", []string{"internal/platform/config"}},
	{"os.LookupEnv", "only platform/config reads the environment", []string{"internal/platform/config"}},
	{"os.Environ", "only platform/config reads the environment", []string{"internal/platform/config"}},
	{"http.DefaultClient", "it has no time limit and forwards credentials on redirects", nil},
	{"http.Get", "it uses http.DefaultClient", nil},
	{"http.Post", "it uses http.DefaultClient", nil},
	{"time.Sleep", "wait for what you wait for", nil},
	{"fmt.Println", "only the command line prints", []string{"internal/cli", "cmd", "tools", "test", "bench"}},
	{"fmt.Printf", "only the command line prints", []string{"internal/cli", "cmd", "tools", "test", "bench"}},
}

func TestBannedCalls(t *testing.T) {
	t.Parallel()
	for _, f := range load(t) {
		if f.test || strings.HasPrefix(f.dir, "internal/maastest") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if !ok || x.Obj != nil {
				return true
			}
			for _, b := range bans {
				if x.Name+"."+s.Sel.Name == b.call && !slices.ContainsFunc(b.allowed, func(p string) bool { return strings.HasPrefix(f.dir, p) }) {
					t.Errorf("%s: %s at line %d: %s", f.path, b.call, f.fset.Position(s.Pos()).Line, b.why)
				}
			}
			return true
		})
	}
}

// Every package says what it owns.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	for _, f := range load(t) {
		if !f.test {
			said[f.dir] = said[f.dir] || f.ast.Doc != nil
		}
	}
	for dir, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}
