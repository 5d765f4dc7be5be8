package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type providerView struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Kind      string    `json:"kind"`
	Preset    string    `json:"preset,omitempty"`
	BaseURL   string    `json:"base_url"`
	Status    string    `json:"status"`
	APIKeySet bool      `json:"api_key_set"`
	CreatedAt time.Time `json:"created_at"`
}

func (a *app) providerCmd() *cobra.Command {
	c := &cobra.Command{Use: "provider", Short: "Accounts elsewhere whose models can be deployed: OpenAI-compatible URLs, Anthropic, Gemini, Azure"}
	c.AddCommand(a.providerAddCmd(), a.providerPresetsCmd(),
		&cobra.Command{Use: "list", Short: "List providers", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			ps, err := all[providerView](ctx, cl, "/inference/providers")
			if err != nil {
				return err
			}
			return a.print(ps, func(w io.Writer) {
				row(w, "ID", "NAME", "KIND", "BASE URL", "KEY", "STATUS")
				for _, p := range ps {
					row(w, p.ID, p.Name, p.Kind, p.BaseURL, map[bool]string{true: "set", false: "none"}[p.APIKeySet], orDash(p.Status))
				}
			})
		})},
		&cobra.Command{Use: "test NAME", Short: "Ask the provider for its models", Args: exactly(1, "the name of the provider"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			id, err := providerID(ctx, cl, args[0])
			if err != nil {
				return err
			}
			var r struct {
				OK        bool        `json:"ok"`
				LatencyMS int64       `json:"latency_ms"`
				Error     *reasonView `json:"error"`
			}
			if err := cl.do(ctx, http.MethodPost, "/inference/providers/"+id+"/test", nil, &r); err != nil {
				return err
			}
			if err := a.print(r, func(w io.Writer) {
				if r.OK {
					fmt.Fprintf(w, "ok, %d ms\n", r.LatencyMS)
				} else if r.Error != nil {
					fmt.Fprintf(w, "failed: %s (%s)\n  → %s\n", r.Error.Message, r.Error.Code, r.Error.Hint)
				}
			}); err != nil || r.OK {
				return err
			}
			return exitError{exitFail}
		})},
		&cobra.Command{Use: "delete NAME", Short: "Forget a provider that no deployment uses", Args: exactly(1, "the name of the provider"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			id, err := providerID(ctx, cl, args[0])
			if err != nil {
				return err
			}
			return cl.do(ctx, http.MethodDelete, "/inference/providers/"+id, nil, nil)
		})})
	return c
}

func (a *app) providerAddCmd() *cobra.Command {
	var name, base, kind, preset, version string
	var stdin bool
	c := &cobra.Command{Use: "add", Short: "Connect an account elsewhere", Args: cobra.NoArgs, Example: "  echo $ANTHROPIC_API_KEY | maas provider add --preset anthropic --key-stdin\n" +
		"  maas provider add --name lab --base-url http://10.0.0.7:8000/v1\n  echo $AZURE_KEY | maas provider add --preset azure --base-url https://RESOURCE.openai.azure.com --key-stdin"}
	c.Flags().StringVar(&name, "name", "", "name of the connection; that of the preset if left out")
	c.Flags().StringVar(&preset, "preset", "", "a known provider: maas provider presets lists them")
	c.Flags().StringVar(&kind, "kind", "", "dialect of the upstream: openai, anthropic, gemini or azure; that of the preset, else openai")
	c.Flags().StringVar(&base, "base-url", "", "address up to the version, as an SDK takes it: https://host/v1; that of the preset if left out")
	c.Flags().StringVar(&version, "api-version", "", "Azure: api-version of addresses with deployments")
	c.Flags().BoolVar(&stdin, "key-stdin", false, "read the provider's API key from standard input")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		if name == "" {
			name = preset
		}
		if name == "" || base == "" && preset == "" {
			return errUsage{errors.New("--preset, or --name and --base-url, are needed")}
		}
		body := map[string]any{"name": name}
		for field, v := range map[string]string{"base_url": base, "kind": kind, "preset": preset, "api_version": version} {
			if v != "" {
				body[field] = v
			}
		}
		if stdin {
			key, err := a.password(true)
			if err != nil {
				return err
			}
			body["api_key"] = key
		}
		var p providerView
		if err := cl.do(ctx, http.MethodPost, "/inference/providers", body, &p); err != nil {
			return err
		}
		return a.print(p, func(w io.Writer) {
			fmt.Fprintf(w, "Connected %s (%s).\nNext: maas provider test %s; maas deploy create --provider %s --upstream MODEL\n", p.Name, p.ID, p.Name, p.Name)
		})
	})
	return c
}

func (a *app) providerPresetsCmd() *cobra.Command {
	type presetView struct {
		ID      string   `json:"id"`
		Name    string   `json:"name"`
		Kind    string   `json:"kind"`
		BaseURL string   `json:"base_url"`
		Needs   []string `json:"needs"`
	}
	return &cobra.Command{Use: "presets", Short: "List known providers", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		var l struct {
			Items []presetView `json:"items"`
		}
		if err := cl.do(ctx, http.MethodGet, "/inference/provider-presets", nil, &l); err != nil {
			return err
		}
		return a.print(l.Items, func(w io.Writer) {
			row(w, "PRESET", "NAME", "KIND", "BASE URL", "NEEDS")
			for _, p := range l.Items {
				row(w, p.ID, p.Name, p.Kind, p.BaseURL, strings.Join(p.Needs, ", "))
			}
		})
	})}
}

// providerID finds a provider by id or name.
func providerID(ctx context.Context, cl *client, ref string) (string, error) {
	ps, err := all[providerView](ctx, cl, "/inference/providers")
	if err != nil {
		return "", err
	}
	for _, p := range ps {
		if p.ID == ref || p.Name == ref {
			return url.PathEscape(p.ID), nil
		}
	}
	return "", errUsage{fmt.Errorf("there is no provider %q; `maas provider list` shows them", ref)}
}
