package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type limitView struct {
	ID      string `json:"id"`
	Subject struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
	} `json:"subject"`
	Unit       string `json:"unit"`
	Limit      int64  `json:"limit"`
	Burst      int64  `json:"burst,omitempty"`
	ByOperator bool   `json:"by_operator,omitempty"`
}

func (a *app) limitCmd() *cobra.Command {
	c := &cobra.Command{Use: "limit", Short: "Limits per minute and at a time, of keys, people, projects, the organisation and models"}
	c.AddCommand(a.limitSetCmd(), a.limitLiveCmd(),
		&cobra.Command{Use: "list", Short: "List limits", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			limits, err := all[limitView](ctx, cl, "/limits")
			if err != nil {
				return err
			}
			return a.print(limits, func(w io.Writer) {
				row(w, "ID", "FOR", "UNIT", "LIMIT", "BURST", "SET BY")
				for _, l := range limits {
					row(w, l.ID, l.Subject.Kind+" "+l.Subject.ID, l.Unit, l.Limit, l.Burst, setBy(l.ByOperator))
				}
			})
		})},
		&cobra.Command{Use: "delete ID", Short: "Lift a limit", Args: exactly(1, "the id of the limit"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/limits/"+args[0], nil, nil)
		})})
	return c
}

func setBy(operator bool) string {
	if operator {
		return "operator"
	}
	return "organisation"
}

func (a *app) limitSetCmd() *cobra.Command {
	var limit, burst int64
	var operator bool
	c := &cobra.Command{Use: "set KIND[:ID] UNIT", Short: "Set a limit, or change the one that is there", Args: exactly(2, "whom the limit is for (key:ID, user:ID, project:ID, model:NAME, tenant) and the unit (requests, tokens, concurrent)"),
		Example: "  maas limit set model:llama tokens --limit 100000\n  maas limit set tenant concurrent --limit 20"}
	c.Flags().Int64Var(&limit, "limit", -1, "per minute; at a time for concurrent")
	c.Flags().Int64Var(&burst, "burst", 0, "units that may come at once; 0 = by the unit")
	c.Flags().BoolVar(&operator, "operator", false, "operators only: the organisation cannot change it")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		if limit < 0 {
			return errUsage{errors.New("--limit is needed")}
		}
		kind, id, _ := strings.Cut(args[0], ":")
		l, err := a.findLimit(ctx, cl, kind, id, args[1], operator)
		if err != nil {
			return err
		}
		if l.ID != "" {
			err = cl.do(ctx, http.MethodPatch, "/limits/"+l.ID, map[string]any{"limit": limit, "burst": burst}, &l)
		} else {
			err = cl.do(ctx, http.MethodPost, "/limits", map[string]any{"subject": map[string]string{"kind": kind, "id": id}, "unit": args[1], "limit": limit, "burst": burst, "operator": operator}, &l)
		}
		if err != nil {
			return err
		}
		return a.print(l, func(w io.Writer) { row(w, l.ID, l.Subject.Kind+" "+l.Subject.ID, l.Unit, l.Limit) })
	})
	return c
}

// findLimit returns the limit of a subject and unit; one without an id if there is none.
func (a *app) findLimit(ctx context.Context, cl *client, kind, id, unit string, operator bool) (limitView, error) {
	limits, err := all[limitView](ctx, cl, "/limits")
	if err != nil {
		return limitView{}, err
	}
	for _, l := range limits {
		if l.Subject.Kind == kind && (l.Subject.ID == id || kind == "tenant" && id == "") && l.Unit == unit && l.ByOperator == operator {
			return l, nil
		}
	}
	return limitView{}, nil
}

func (a *app) limitLiveCmd() *cobra.Command {
	return &cobra.Command{Use: "live", Short: "How limits and budgets stand in every gateway", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		var live struct {
			Nodes []struct {
				Node      string    `json:"node"`
				StartedAt time.Time `json:"started_at"`
				Shared    string    `json:"shared"`
				Grantor   string    `json:"grantor"`
				Open      int64     `json:"open"`
				Lag       int64     `json:"journal_lag"`
			} `json:"nodes"`
			Degraded bool   `json:"degraded"`
			Words    string `json:"words"`
		}
		if err := cl.do(ctx, http.MethodGet, "/limits/live", nil, &live); err != nil {
			return err
		}
		return a.print(live, func(w io.Writer) {
			row(w, "GATEWAY", "SINCE", "SHARED", "BUDGETS", "CALLS", "NOT BOOKED")
			for _, n := range live.Nodes {
				row(w, n.Node, ago(n.StartedAt), n.Shared, n.Grantor, n.Open, n.Lag)
			}
			fmt.Fprintln(w, live.Words)
		})
	})}
}
