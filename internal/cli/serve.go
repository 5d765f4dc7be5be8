package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strings"

	"github.com/spf13/cobra"

	"maas/internal/inference/engine/native/worker"
	"maas/internal/maas"
	"maas/internal/platform/config"
)

// serverFlags are those of every command that reads the server's configuration.
type serverFlags struct {
	file, data, listen string
	services, set      []string
}

func (f *serverFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "config", "", "YAML file")
	c.Flags().StringVar(&f.data, "data", "", "folder for everything that is written (default ./data)")
	c.Flags().StringVar(&f.listen, "listen", "", "host:port of the listener (default 127.0.0.1:8080)")
	c.Flags().StringSliceVar(&f.services, "services", nil, "services of this process (default all)")
	c.Flags().StringArrayVar(&f.set, "set", nil, "any other key: --set telemetry.level=debug")
}

func (f *serverFlags) load() (maas.Config, error) {
	set := map[string]string{}
	for _, kv := range f.set {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return maas.Config{}, errUsage{fmt.Errorf("--set takes key=value, not %q", kv)}
		}
		set[k] = v
	}
	for k, v := range map[string]string{"data": f.data, "listen": f.listen, "services": strings.Join(f.services, ",")} {
		if v != "" {
			set[k] = v
		}
	}
	return maas.Load(config.Source{File: f.file, Set: set})
}

func (a *app) serveCmd() *cobra.Command {
	var f serverFlags
	var quick bool
	var profile string
	c := &cobra.Command{Use: "serve", Short: "Run the platform", Args: cobra.NoArgs,
		Long: "Run the platform, or some of its services, until the process is asked to stop.\n\nEverything is written below --data. The first owner is made in the console, or without a person from MAAS_ADMIN_EMAIL and MAAS_ADMIN_PASSWORD."}
	f.add(c)
	c.Flags().BoolVar(&quick, "quickstart", false, "make a first owner, a demo model and a key, and print how to use them")
	c.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile of the whole run to this file")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := f.load()
		if err != nil {
			return err
		}
		if profile != "" {
			out, err := os.Create(profile)
			if err != nil {
				return err
			}
			defer out.Close()
			if err := pprof.StartCPUProfile(out); err != nil {
				return err
			}
			defer pprof.StopCPUProfile()
		}
		tuneMemory()
		p, err := maas.Start(cmd.Context(), cfg, maas.Options{Version: Version, Console: a.err})
		if err != nil {
			return err
		}
		if quick {
			if err := a.quickstart(cmd.Context(), p, cfg); err != nil {
				a.fail(err)
			}
		} else {
			a.greet(p)
		}
		return p.Wait()
	}
	return c
}

func (a *app) greet(p *maas.Process) {
	a.say("maas %s at %s", Version, p.URL())
	if code := p.SetupCode(); code != "" {
		a.say("There is no owner yet. Open %s/setup on this machine; from another one the code is %s", p.URL(), code)
	}
}

func (a *app) workerCmd() *cobra.Command {
	c := &cobra.Command{Use: "worker", Short: "Child processes of the server", Hidden: true}
	c.AddCommand(&cobra.Command{Use: "engine", Short: "Serve one model on a unix socket", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if code := worker.Main(cmd.Context(), a.in, a.out, a.err); code != exitOK {
			return exitError{code}
		}
		return nil
	}})
	return c
}

func (a *app) configCmd() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "The server's configuration"}
	var f serverFlags
	show := &cobra.Command{Use: "print", Short: "Print the effective configuration with secrets redacted", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		cfg, err := f.load()
		if err != nil {
			return err
		}
		return config.Print(a.out, cfg)
	}}
	f.add(show)
	c.AddCommand(show, &cobra.Command{Use: "reference", Short: "Print every key with its default and meaning", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return config.Reference(a.out, maas.Defaults())
	}})
	return c
}

func (a *app) migrateCmd() *cobra.Command {
	c := &cobra.Command{Use: "migrate", Short: "The schema of the database"}
	for verb, short := range map[string]string{"status": "List migrations and which have run", "up": "Run what is missing", "check": "Fail when something is missing"} {
		var f serverFlags
		sub := &cobra.Command{Use: verb, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.load()
			if err != nil {
				return err
			}
			return a.migrate(cmd.Context(), cfg, verb)
		}}
		f.add(sub)
		c.AddCommand(sub)
	}
	return c
}

func (a *app) migrate(ctx context.Context, cfg maas.Config, verb string) error {
	ms, err := maas.Migrate(ctx, cfg, verb)
	if perr := a.print(ms, func(w io.Writer) {
		row(w, "SERVICE", "VERSION", "NAME", "APPLIED")
		for _, m := range ms {
			row(w, m.Service, m.Version, m.Name, map[bool]string{true: "yes", false: "no"}[m.Applied])
		}
	}); perr != nil && err == nil {
		err = perr
	}
	return err
}

func (a *app) doctorCmd() *cobra.Command {
	var f serverFlags
	c := &cobra.Command{Use: "doctor", Short: "Check the parts of an installation while it does not run", Args: cobra.NoArgs}
	f.add(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := f.load()
		if err != nil {
			return err
		}
		if _, err := os.Stat(cfg.Data); err != nil {
			return errUsage{fmt.Errorf("there is no data folder %s: name it with --data", cfg.Data)}
		}
		findings := maas.Doctor(cmd.Context(), cfg)
		failed := false
		if err := a.print(findings, func(w io.Writer) {
			for _, d := range findings {
				row(w, map[bool]string{true: "ok", false: "FAILED"}[d.OK], d.Part, d.Detail, d.Hint)
				failed = failed || !d.OK
			}
		}); err != nil {
			return err
		}
		if failed {
			return errors.New("some parts are not well")
		}
		return nil
	}
	c.AddCommand(a.doctorLedgerCmd())
	return c
}

func (a *app) doctorLedgerCmd() *cobra.Command {
	var f serverFlags
	c := &cobra.Command{Use: "ledger", Short: "Check that the books of an installation add up, without its server", Args: cobra.NoArgs}
	f.add(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := f.load()
		if err != nil {
			return err
		}
		r, err := maas.DoctorLedger(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		return a.printLedger(r)
	}
	return c
}
