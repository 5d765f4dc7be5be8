package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"maas/internal/platform/fault"
)

// ErrNotReady is what `--wait` ends with when a deployment cannot become ready.
var ErrNotReady = fault.New(fault.Unavailable, "cli.deployment_not_ready", "the deployment did not become ready")

type deploymentView struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Engine   string `json:"engine"`
	Why      string `json:"engine_reason"`
	Desired  string `json:"desired"`
	Status   string `json:"status"`
	Upstream string `json:"upstream_model"`
	Model    *struct {
		Name    string `json:"name"`
		Version int    `json:"version"`
	} `json:"model"`
	Reason   *reasonView `json:"reason"`
	Progress *struct {
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
		Unit  string `json:"unit"`
	} `json:"progress"`
	Context     int `json:"context"`
	Concurrency int `json:"concurrency"`
	Replicas    []struct {
		ID      string `json:"id"`
		State   string `json:"state"`
		Attempt int    `json:"attempt"`
	} `json:"replicas"`
	Live struct {
		Running   int     `json:"running"`
		Waiting   int     `json:"waiting"`
		TokensPer float64 `json:"tokens_per_s"`
		Requests  int64   `json:"requests_total"`
	} `json:"live"`
}

func (d deploymentView) what() string {
	if d.Model != nil {
		return d.Model.Name + "@r" + strconv.Itoa(d.Model.Version)
	}
	return d.Upstream
}

func (a *app) deployCmd() *cobra.Command {
	c := &cobra.Command{Use: "deploy", Short: "Deployments: models that answer requests"}
	c.AddCommand(a.deployCreateCmd(), a.deployListCmd(), a.deployShowCmd(), a.deployLogsCmd(), a.fitCmd(),
		a.deployActionCmd("start", "Start a stopped deployment"), a.deployActionCmd("stop", "Stop a deployment; its settings stay"), a.deployActionCmd("restart", "Replace the running replicas"),
		&cobra.Command{Use: "delete NAME", Short: "Delete a deployment: its model name answers 404 at once", Args: exactly(1, "the name of the deployment"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/inference/deployments/"+url.PathEscape(args[0]), nil, nil)
		})})
	return c
}

func (a *app) deployCreateCmd() *cobra.Command {
	var name, engine, provider, upstream string
	var ctxLen, concurrency, threads, maxTokens int
	var wait bool
	var timeout time.Duration
	c := &cobra.Command{Use: "create [MODEL]", Short: "Deploy a model of the registry, or a model of a provider", Args: cobra.MaximumNArgs(1),
		Example: "  maas deploy create my-llama --name my-llama --wait\n  maas deploy create --provider openai --upstream gpt-4o-mini --name gpt-4o-mini"}
	f := c.Flags()
	f.StringVar(&name, "name", "", "public model name that clients call (default: the model's name)")
	f.StringVar(&engine, "engine", "auto", "auto, native or openai")
	f.StringVar(&provider, "provider", "", "provider whose model is deployed, by id or name")
	f.StringVar(&upstream, "upstream", "", "name of the model at the provider")
	f.IntVar(&ctxLen, "context", 0, "tokens of context per request (0 = what the model has and memory allows)")
	f.IntVar(&concurrency, "concurrency", 0, "requests that run at the same time (0 = default)")
	f.IntVar(&threads, "threads", 0, "CPU threads of the engine (0 = default)")
	f.IntVar(&maxTokens, "max-tokens", 0, "default limit of an answer in tokens (0 = none)")
	f.BoolVar(&wait, "wait", false, "wait until it answers, or say why it does not")
	f.DurationVar(&timeout, "timeout", 10*time.Minute, "how long --wait waits")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		body := map[string]any{"name": name, "engine": engine}
		switch {
		case provider != "":
			id, err := providerID(ctx, cl, provider)
			if err != nil {
				return err
			}
			body["provider"], body["upstream_model"], body["engine"] = id, upstream, "openai"
			body["name"] = first(name, upstream)
		case len(args) == 1:
			body["model"], body["name"] = args[0], first(name, args[0])
		default:
			return errUsage{errors.New("give the name of a model, or --provider and --upstream")}
		}
		for k, v := range map[string]int{"context": ctxLen, "concurrency": concurrency, "threads": threads} {
			if v != 0 {
				body[k] = v
			}
		}
		if maxTokens > 0 {
			body["config"] = map[string]any{"max_tokens": maxTokens}
		}
		var d deploymentView
		if err := cl.do(ctx, http.MethodPost, "/inference/deployments", body, &d); err != nil {
			return err
		}
		if wait {
			var err error
			if d, err = a.awaitDeployment(ctx, cl, d, timeout); err != nil {
				return err
			}
		}
		return a.print(d, func(w io.Writer) {
			fmt.Fprintf(w, "%s is %s (%s on %s).\n", d.Name, d.Status, d.what(), d.Engine)
			if d.Status == "ready" {
				fmt.Fprintf(w, "Next: maas chat %s\n", d.Name)
			}
		})
	})
	return c
}

// awaitDeployment shows each change of state and reason until the deployment is ready, or failed for good.
func (a *app) awaitDeployment(ctx context.Context, cl *client, d deploymentView, timeout time.Duration) (deploymentView, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := ""
	for {
		line := d.Status
		if d.Progress != nil && d.Progress.Total > 0 {
			line += fmt.Sprintf(" %d%%", 100*d.Progress.Done/d.Progress.Total)
		}
		if d.Reason != nil {
			line += ": " + d.Reason.Message + " (" + d.Reason.Code + ")"
		}
		if line != last {
			a.say("%s: %s", d.Name, line)
			last = line
		}
		switch d.Status {
		case "ready":
			return d, nil
		case "failed", "stopped":
			e := ErrNotReady.With("%s is %s", d.Name, d.Status)
			if d.Reason != nil {
				e = ErrNotReady.With("%s: %s (%s)", d.Name, d.Reason.Message, d.Reason.Code).WithHint("%s", first(d.Reason.Hint, "maas deploy logs "+d.Name))
			}
			return d, e
		}
		select {
		case <-ctx.Done():
			return d, ErrWaited.With("%s is still %s", d.Name, line).WithHint("maas deploy show %s", d.Name)
		case <-time.After(250 * time.Millisecond):
		}
		if err := cl.poll(ctx, "/inference/deployments/"+url.PathEscape(d.ID), &d); err != nil {
			return d, err
		}
	}
}

func (a *app) deployListCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List deployments", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		ds, err := all[deploymentView](ctx, cl, "/inference/deployments")
		if err != nil {
			return err
		}
		return a.print(ds, func(w io.Writer) {
			row(w, "NAME", "MODEL", "ENGINE", "STATUS", "RUNNING", "TOK/S", "REASON")
			for _, d := range ds {
				reason := "-"
				if d.Reason != nil {
					reason = d.Reason.Message
				}
				row(w, d.Name, d.what(), d.Engine, d.Status, d.Live.Running, fmt.Sprintf("%.1f", d.Live.TokensPer), reason)
			}
		})
	})}
}

func (a *app) deployShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "Show a deployment with its replicas and last changes", Args: exactly(1, "the name of the deployment"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		path := "/inference/deployments/" + url.PathEscape(args[0])
		var d deploymentView
		if err := cl.do(ctx, http.MethodGet, path, nil, &d); err != nil {
			return err
		}
		type change struct {
			At      time.Time `json:"at"`
			From    string    `json:"from"`
			To      string    `json:"to"`
			Code    string    `json:"code"`
			Message string    `json:"message"`
		}
		var events list[change]
		if err := cl.do(ctx, http.MethodGet, path+"/events?limit=10", nil, &events); err != nil {
			return err
		}
		return a.print(map[string]any{"deployment": d, "events": events.Items}, func(w io.Writer) {
			row(w, "name", d.Name)
			row(w, "model", d.what())
			row(w, "engine", d.Engine+"  "+d.Why)
			row(w, "status", d.Status)
			if d.Reason != nil {
				row(w, "reason", d.Reason.Message+" ("+d.Reason.Code+")")
				row(w, "next step", orDash(d.Reason.Hint))
			}
			row(w, "context", d.Context)
			row(w, "concurrency", d.Concurrency)
			for _, r := range d.Replicas {
				row(w, "replica", fmt.Sprintf("%s %s, attempt %d", r.ID, r.State, r.Attempt))
			}
			for _, e := range events.Items {
				row(w, e.At.Local().Format(time.TimeOnly), fmt.Sprintf("%s → %s  %s", e.From, e.To, e.Message))
			}
		})
	})}
}

func (a *app) deployActionCmd(verb, short string) *cobra.Command {
	return &cobra.Command{Use: verb + " NAME", Short: short, Args: exactly(1, "the name of the deployment"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var d deploymentView
		if err := cl.do(ctx, http.MethodPost, "/inference/deployments/"+url.PathEscape(args[0])+"/"+verb, nil, &d); err != nil {
			return err
		}
		return a.print(d, func(w io.Writer) { row(w, d.Name, d.Status) })
	})}
}

func (a *app) deployLogsCmd() *cobra.Command {
	var tail int
	c := &cobra.Command{Use: "logs NAME", Short: "Show the last lines of the engine's log", Args: exactly(1, "the name of the deployment")}
	c.Flags().IntVar(&tail, "tail", 100, "lines")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.send(ctx, http.MethodGet, "/api/v1/inference/deployments/"+url.PathEscape(args[0])+"/logs?tail="+strconv.Itoa(tail), nil, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(a.out, resp.Body)
		return err
	})
	return c
}

func (a *app) fitCmd() *cobra.Command {
	var ctxLen, concurrency int
	c := &cobra.Command{Use: "fit MODEL", Short: "Say whether a model fits this machine, and what it needs", Args: exactly(1, "the name of the model")}
	c.Flags().IntVar(&ctxLen, "context", 0, "tokens of context")
	c.Flags().IntVar(&concurrency, "concurrency", 0, "requests at the same time")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var fit struct {
			Fits   bool   `json:"fits"`
			Engine string `json:"engine"`
			Need   struct {
				HostBytes int64            `json:"host_bytes"`
				Parts     map[string]int64 `json:"parts"`
			} `json:"need"`
			Have       int64       `json:"have_bytes"`
			MaxContext int         `json:"max_context"`
			Reason     *reasonView `json:"reason"`
		}
		body := map[string]any{"model": args[0]}
		if ctxLen > 0 {
			body["context"] = ctxLen
		}
		if concurrency > 0 {
			body["concurrency"] = concurrency
		}
		if err := cl.do(ctx, http.MethodPost, "/inference/fit", body, &fit); err != nil {
			return err
		}
		return a.print(fit, func(w io.Writer) {
			row(w, "fits", fit.Fits)
			row(w, "engine", fit.Engine)
			row(w, "needs", sizeText(fit.Need.HostBytes))
			for k, v := range fit.Need.Parts {
				row(w, "  "+k, sizeText(v))
			}
			row(w, "free", sizeText(fit.Have))
			row(w, "largest context", fit.MaxContext)
			if fit.Reason != nil {
				row(w, "reason", fit.Reason.Message)
			}
		})
	})
	return c
}
