package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

type providerView struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	BaseURL   string    `json:"base_url"`
	Status    string    `json:"status"`
	APIKeySet bool      `json:"api_key_set"`
	CreatedAt time.Time `json:"created_at"`
}

func (a *app) providerCmd() *cobra.Command {
	c := &cobra.Command{Use: "provider", Short: "OpenAI-compatible URLs whose models can be deployed"}
	c.AddCommand(a.providerAddCmd(),
		&cobra.Command{Use: "list", Short: "List providers", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			ps, err := all[providerView](ctx, cl, "/inference/providers")
			if err != nil {
				return err
			}
			return a.print(ps, func(w io.Writer) {
				row(w, "ID", "NAME", "BASE URL", "KEY", "STATUS")
				for _, p := range ps {
					row(w, p.ID, p.Name, p.BaseURL, map[bool]string{true: "set", false: "none"}[p.APIKeySet], orDash(p.Status))
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
	var name, base string
	var stdin bool
	c := &cobra.Command{Use: "add", Short: "Connect an OpenAI-compatible URL", Args: cobra.NoArgs, Example: "  echo $OPENAI_API_KEY | maas provider add --name openai --base-url https://api.openai.com/v1 --key-stdin"}
	c.Flags().StringVar(&name, "name", "", "name of the connection")
	c.Flags().StringVar(&base, "base-url", "", "address that ends in /v1, as an OpenAI SDK takes it")
	c.Flags().BoolVar(&stdin, "key-stdin", false, "read the provider's API key from standard input")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		if name == "" || base == "" {
			return errUsage{errors.New("--name and --base-url are needed")}
		}
		body := map[string]any{"name": name, "base_url": base}
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
