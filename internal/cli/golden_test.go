package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"maas/internal/maas"
	"maas/internal/platform/config"
	"maas/internal/platform/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file of the repository, or rewrites it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("..", "..", filepath.FromSlash(file))
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, got, 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	if !bytes.Equal(want, got) {
		t.Errorf("%s is out of date: run make gen", file)
	}
}

func start(t *testing.T) *maas.Process {
	t.Helper()
	c, err := maas.Load(config.Source{Env: []string{}, Set: map[string]string{"data": t.TempDir(), "listen": "127.0.0.1:0"}})
	require.NoError(t, err)
	p, err := maas.Start(t.Context(), c, maas.Options{Version: "golden", Console: &bytes.Buffer{}})
	require.NoError(t, err)
	t.Cleanup(func() {
		p.Stop()
		require.NoError(t, p.Wait())
	})
	return p
}

func TestGolden(t *testing.T) {
	p := start(t)
	doc, err := p.Server().Document()
	require.NoError(t, err)
	golden(t, "api/openapi.yaml", doc)
	golden(t, "docs/reference/config.md", configPage(t))
	golden(t, "docs/reference/errors.md", errorPage())
	golden(t, "docs/reference/metrics.md", metricPage(p.Metrics()))
	golden(t, "docs/reference/permissions.md", permissionPage(p))
	golden(t, "docs/reference/cli.md", commandPage())
}

// Every declared route is in the document, names a permission, and its operationId begins with the service.
func TestEveryRouteIsDocumented(t *testing.T) {
	p := start(t)
	doc, err := p.Server().Document()
	require.NoError(t, err)
	routes := p.Server().Routes()
	require.Greater(t, len(routes), 40)
	seen := map[string]bool{}
	for _, r := range routes {
		require.Contains(t, string(doc), r.OperationID)
		require.NotEmpty(t, r.Permission, r.Path)
		require.False(t, seen[r.OperationID], "%s is declared twice", r.OperationID)
		seen[r.OperationID] = true
	}
}

const generated = "Generated from the program (`make gen`).\n\n"

func configPage(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, config.Reference(&b, maas.Defaults()))
	return b.Bytes()
}

func errorPage() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Errors\n\n%sCodes are stable. The management API shows them in problem+json as `code`, the OpenAI dialect as `error.code`.\n\n| code | kind | meaning | next step |\n| --- | --- | --- | --- |\n", generated)
	for _, e := range fault.All() {
		fmt.Fprintf(&b, "| <a id=\"%s\"></a>`%s` | %s | %s | %s |\n", e.Code, e.Code, e.Kind, e.Message, e.Hint)
	}
	return b.Bytes()
}

var description = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)".*variableLabels: \{([^}]*)\}`)

func metricPage(r *prometheus.Registry) []byte {
	ch := make(chan *prometheus.Desc)
	go func() {
		r.Describe(ch)
		close(ch)
	}()
	var rows []string
	for d := range ch {
		m := description.FindStringSubmatch(d.String())
		if m == nil || strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
			continue
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], m[3], m[2]))
	}
	slices.Sort(rows)
	return []byte("# Metrics\n\n" + generated + "At `/metrics`, besides those of Go and of the process (`go_*`, `process_*`).\n\n| name | labels | meaning |\n| --- | --- | --- |\n" + strings.Join(slices.Compact(rows), ""))
}

func permissionPage(p *maas.Process) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Routes and permissions\n\n%s| route | operation | permission |\n| --- | --- | --- |\n", generated)
	for _, r := range p.Server().Routes() {
		fmt.Fprintf(&b, "| `%s %s` | %s | %s |\n", r.Method, r.Path, r.OperationID, r.Permission)
	}
	return b.Bytes()
}

func commandPage() []byte {
	var b bytes.Buffer
	b.WriteString("# Command line\n\n" + generated)
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Runnable() {
			fmt.Fprintf(&b, "## %s\n%s\n", c.CommandPath(), c.Short)
			if c.Example != "" {
				fmt.Fprintf(&b, "```\n%s\n```\n", strings.TrimSpace(strings.ReplaceAll(c.Example, "\n  ", "\n")))
			}
			if flags := c.LocalFlags().FlagUsages(); flags != "" {
				fmt.Fprintf(&b, "```\n%s```\n", flags)
			}
			b.WriteString("\n")
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
	return b.Bytes()
}
