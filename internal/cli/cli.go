// Package cli is the command line: `maas serve` and the workers it starts, and a client of the management API for everything a terminal user wants. Client commands use the same public API as everybody else.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"maas/internal/platform/fault"
)

// Version of the program; set at link time by the Makefile.
var Version = "0.1.0-dev"

// Exit codes.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 2
)

// app holds what commands share: the streams, the output form and the connection to the server.
type app struct {
	in       io.Reader
	out, err io.Writer
	output   string // "table" or "json"
	url      string
	token    string
}

// errUsage marks an error of the arguments: exit code 2.
type errUsage struct{ error }

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, args, in, out, errw)
}

// Run is Main with a context: what tests call.
func Run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	a.fail(err)
	var usage errUsage
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFail
}

// exitError ends the program with a code and without further words.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "maas", Short: "Register, serve, fine-tune and publish language models on your own machines",
		SilenceErrors: true, SilenceUsage: true, Version: Version,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return errUsage{fmt.Errorf("%w\nSee `%s --help`", err, c.CommandPath())}
	})
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "table", "output form: table or json")
	f.StringVar(&a.url, "url", "", "address of the server (default: that of `maas login`, or MAAS_URL)")
	f.StringVar(&a.token, "token", "", "API key or access token (default: that of `maas login`, or MAAS_TOKEN)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "table" && a.output != "json" {
			return errUsage{fmt.Errorf("--output is table or json, not %q", a.output)}
		}
		return nil
	}
	root.AddCommand(a.serveCmd(), a.workerCmd(), a.configCmd(), a.migrateCmd(), a.doctorCmd(), a.versionCmd(),
		a.loginCmd(), a.logoutCmd(), a.userCmd(), a.tenantCmd(), a.memberCmd(), a.inviteCmd(), a.projectCmd(), a.roleCmd(), a.serviceCmd(), a.keyCmd(), a.modelCmd(), a.deployCmd(), a.providerCmd(), a.routeCmd(), a.chatCmd(), a.usageCmd(), a.jobCmd(),
		a.priceCmd(), a.walletCmd(), a.budgetCmd(), a.limitCmd(), a.invoiceCmd(), a.ledgerCmd())
	return root
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return a.print(map[string]string{"version": Version}, func(w io.Writer) { fmt.Fprintln(w, "maas", Version) })
	}}
}

// print shows v as JSON, or calls table.
func (a *app) print(v any, table func(io.Writer)) error {
	if a.output == "json" {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// say writes a line for people to standard error, so that standard output stays clean for pipes.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// fail explains an error: what, where, next step.
func (a *app) fail(err error) {
	var e *fault.Error
	if !errors.As(err, &e) {
		a.say("maas: %v", err)
		return
	}
	if a.output == "json" {
		_, _ = a.err.Write(append(fault.Encode(e), '\n')) // the terminal is gone
		return
	}
	a.say("maas: %s (%s)", e.Text(), e.Code)
	for _, f := range e.Fields {
		a.say("  %s: %s", f.Name, f.Message)
	}
	if e.Hint != "" {
		a.say("  → %s", e.Hint)
	}
}

// row writes tab-separated cells.
func row(w io.Writer, cells ...any) {
	parts := make([]string, len(cells))
	for i, c := range cells {
		parts[i] = fmt.Sprint(c)
	}
	fmt.Fprintln(w, strings.Join(parts, "\t"))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
