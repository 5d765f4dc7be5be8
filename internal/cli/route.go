package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type routeView struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Aliases     []string `json:"aliases"`
	Targets     []struct {
		Deployment   string `json:"deployment"`
		DeploymentID string `json:"deployment_id"`
		Status       string `json:"status"`
		Weight       int    `json:"weight"`
		Priority     int    `json:"priority"`
	} `json:"targets"`
	Fallbacks []string `json:"fallbacks"`
	Strategy  string   `json:"strategy"`
	Retry     struct {
		Attempts      int      `json:"attempts"`
		BudgetPercent int      `json:"budget_percent"`
		On            []string `json:"on"`
	} `json:"retry"`
	TimeoutMS int             `json:"timeout_ms"`
	Enabled   bool            `json:"enabled"`
	State     []endpointState `json:"state"`
	Rev       int64           `json:"rev"`
}

type endpointState struct {
	Deployment   string    `json:"deployment"`
	Endpoint     string    `json:"endpoint"`
	Breaker      string    `json:"breaker"`
	Reason       string    `json:"reason,omitempty"`
	EjectedUntil time.Time `json:"ejected_until,omitzero"`
	CoolingUntil time.Time `json:"cooling_until,omitzero"`
	ErrorRate    float64   `json:"error_rate"`
	Requests     int64     `json:"requests"`
	InFlight     int64     `json:"in_flight"`
	Latency      float64   `json:"latency_ms_p50"`
	LastError    *struct {
		Code    string    `json:"code"`
		Message string    `json:"message"`
		At      time.Time `json:"at"`
	} `json:"last_error"`
}

func (a *app) routeCmd() *cobra.Command {
	c := &cobra.Command{Use: "route", Short: "Routes: public names that lead to chains of deployments"}
	c.AddCommand(a.routeCreateCmd(), a.routeListCmd(), a.routeShowCmd(), a.routeTestCmd(), a.upstreamsCmd(),
		&cobra.Command{Use: "delete NAME", Short: "Delete a route; a deployment of the same name answers to it again", Args: exactly(1, "the name of the route"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/inference/routes/"+url.PathEscape(args[0]), nil, nil)
		})})
	return c
}

// target reads DEPLOYMENT[:WEIGHT[:PRIORITY]]. Names may hold colons: numbers count from the end.
func target(s string) map[string]any {
	numbers := []int{}
	for len(numbers) < 2 {
		i := strings.LastIndexByte(s, ':')
		if i < 0 {
			break
		}
		n, err := strconv.Atoi(s[i+1:])
		if err != nil {
			break
		}
		numbers, s = append([]int{n}, numbers...), s[:i]
	}
	t := map[string]any{"deployment": s}
	if len(numbers) > 0 {
		t["weight"] = numbers[0]
	}
	if len(numbers) > 1 {
		t["priority"] = numbers[1]
	}
	return t
}

func (a *app) routeCreateCmd() *cobra.Command {
	var targets, aliases, fallbacks, on []string
	var description, strategy string
	var attempts, budget int
	var timeout time.Duration
	c := &cobra.Command{Use: "create NAME", Short: "Make a public name that leads to deployments", Args: exactly(1, "the name of the route"),
		Example: "  maas route create fast --target my-llama:90 --target my-llama-new:10 --fallback gpt-4o-mini\n  maas route create chat --alias gpt-4o --target local:100:0 --target hosted:100:1 --timeout 5s"}
	f := c.Flags()
	f.StringArrayVar(&targets, "target", nil, "DEPLOYMENT[:WEIGHT[:PRIORITY]]: weight 100 and priority 0 if absent; lower priorities are tried first")
	f.StringArrayVar(&aliases, "alias", nil, "further public name of the route")
	f.StringArrayVar(&fallbacks, "fallback", nil, "public name whose deployments follow when all targets fail")
	f.StringVar(&description, "description", "", "what it is for")
	f.StringVar(&strategy, "strategy", "weighted", "how to choose among targets of one priority: weighted, least_loaded or session")
	f.IntVar(&attempts, "attempts", 3, "attempts in all")
	f.IntVar(&budget, "budget", 20, "attempts beyond the first, in percent of recent requests")
	f.StringSliceVar(&on, "on", nil, "failures that lead to another attempt: connect, 429, 5xx, timeout (default: all)")
	f.DurationVar(&timeout, "timeout", 0, "to the first piece of an answer, per attempt (0 = two minutes for streams)")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		if len(targets)+len(fallbacks) == 0 {
			return errUsage{errors.New("give at least one --target or --fallback")}
		}
		list := make([]map[string]any, 0, len(targets))
		for _, t := range targets {
			list = append(list, target(t))
		}
		retry := map[string]any{"attempts": attempts, "budget_percent": budget}
		if len(on) > 0 {
			retry["on"] = on
		}
		body := map[string]any{"name": args[0], "description": description, "aliases": aliases, "targets": list, "fallbacks": fallbacks, "strategy": strategy, "retry": retry, "timeout_ms": timeout.Milliseconds()}
		for _, k := range []string{"aliases", "fallbacks"} {
			if s, ok := body[k].([]string); ok && len(s) == 0 {
				delete(body, k)
			}
		}
		var r routeView
		if err := cl.do(ctx, http.MethodPost, "/inference/routes", body, &r); err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) {
			fmt.Fprintf(w, "Made the route %s (%s).\nNext: maas route test %s; maas chat %s\n", r.Name, r.ID, r.Name, r.Name)
		})
	})
	return c
}

func (a *app) routeListCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List routes", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		list, err := all[routeView](ctx, cl, "/inference/routes")
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) {
			row(w, "NAME", "ALIASES", "TARGETS", "FALLBACKS", "STRATEGY", "ENABLED", "BREAKERS")
			for _, r := range list {
				targets := make([]string, 0, len(r.Targets))
				for _, t := range r.Targets {
					targets = append(targets, t.Deployment)
				}
				row(w, r.Name, orDash(strings.Join(r.Aliases, ",")), orDash(strings.Join(targets, ",")), orDash(strings.Join(r.Fallbacks, ",")), r.Strategy, strconv.FormatBool(r.Enabled), breakersOf(r.State))
			}
		})
	})}
}

// breakersOf sums up: how many of the endpoints take requests.
func breakersOf(list []endpointState) string {
	closed := 0
	for _, s := range list {
		if s.Breaker == "closed" {
			closed++
		}
	}
	return fmt.Sprintf("%d/%d closed", closed, len(list))
}

func (a *app) routeShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "Show a route, its targets and the state of their endpoints", Args: exactly(1, "the name of the route"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var r routeView
		if err := cl.do(ctx, http.MethodGet, "/inference/routes/"+url.PathEscape(args[0]), nil, &r); err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) {
			row(w, "name", r.Name)
			row(w, "aliases", orDash(strings.Join(r.Aliases, ", ")))
			row(w, "fallbacks", orDash(strings.Join(r.Fallbacks, ", ")))
			row(w, "strategy", r.Strategy)
			row(w, "retry", fmt.Sprintf("%d attempts, budget %d %%, on %s", r.Retry.Attempts, r.Retry.BudgetPercent, orDash(strings.Join(r.Retry.On, ", "))))
			row(w, "timeout", orDash(map[bool]string{true: (time.Duration(r.TimeoutMS) * time.Millisecond).String()}[r.TimeoutMS > 0]))
			row(w, "enabled", strconv.FormatBool(r.Enabled))
			row(w)
			row(w, "PRIORITY", "WEIGHT", "DEPLOYMENT", "STATUS")
			for _, t := range r.Targets {
				row(w, strconv.Itoa(t.Priority), strconv.Itoa(t.Weight), t.Deployment, t.Status)
			}
			row(w)
			endpointRows(w, r.State)
		})
	})}
}

func endpointRows(w io.Writer, list []endpointState) {
	row(w, "DEPLOYMENT", "ENDPOINT", "BREAKER", "UNTIL", "ERRORS", "IN FLIGHT", "P50", "LAST ERROR")
	for _, s := range list {
		until, last := "-", "-"
		for _, t := range []time.Time{s.EjectedUntil, s.CoolingUntil} {
			if !t.IsZero() {
				until = t.Local().Format(time.TimeOnly)
			}
		}
		if s.LastError != nil {
			last = s.LastError.At.Local().Format(time.TimeOnly) + " " + s.LastError.Message
		}
		row(w, s.Deployment, s.Endpoint, s.Breaker, until, fmt.Sprintf("%.0f %% of %d", 100*s.ErrorRate, s.Requests), strconv.FormatInt(s.InFlight, 10), fmt.Sprintf("%.0f ms", s.Latency), last)
	}
}

func (a *app) upstreamsCmd() *cobra.Command {
	return &cobra.Command{Use: "upstreams", Short: "Show every endpoint with the state of its breaker", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		list, err := all[endpointState](ctx, cl, "/inference/upstreams")
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) { endpointRows(w, list) })
	})}
}

func (a *app) routeTestCmd() *cobra.Command {
	var model, prompt string
	var stream bool
	c := &cobra.Command{Use: "test NAME", Short: "Send a short request through a route and show each attempt", Args: exactly(1, "the name of the route")}
	c.Flags().StringVar(&model, "model", "", "one of the route's names (default: its own)")
	c.Flags().StringVar(&prompt, "prompt", "", "what to ask")
	c.Flags().BoolVar(&stream, "stream", false, "ask for a stream")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		type testError struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}
		var r struct {
			RequestID string `json:"request_id"`
			Model     string `json:"model"`
			OK        bool   `json:"ok"`
			Attempts  []struct {
				Deployment string     `json:"deployment"`
				Endpoint   string     `json:"endpoint"`
				Status     int        `json:"status"`
				MS         int64      `json:"ms"`
				Error      *testError `json:"error"`
			} `json:"attempts"`
			Answer string     `json:"answer"`
			Error  *testError `json:"error"`
		}
		if err := cl.do(ctx, http.MethodPost, "/inference/routes/"+url.PathEscape(args[0])+"/test", map[string]any{"model": model, "prompt": prompt, "stream": stream}, &r); err != nil {
			return err
		}
		err := a.print(r, func(w io.Writer) {
			row(w, "ATTEMPT", "DEPLOYMENT", "STATUS", "TIME", "ERROR")
			for i, x := range r.Attempts {
				words := "-"
				if x.Error != nil {
					words = x.Error.Message + " (" + x.Error.Code + ")"
				}
				row(w, strconv.Itoa(i+1), x.Deployment, strconv.Itoa(x.Status), fmt.Sprintf("%d ms", x.MS), words)
			}
			if r.OK {
				fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(r.Answer))
			} else if r.Error != nil {
				fmt.Fprintf(w, "\nfailed: %s (%s)\n", r.Error.Message, r.Error.Code)
			}
		})
		if err != nil || r.OK {
			return err
		}
		return exitError{exitFail}
	})
	return c
}
