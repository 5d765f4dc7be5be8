package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"maas/internal/user/invoice"
)

type usageTotals struct {
	Requests   int64 `json:"requests"`
	Errors     int64 `json:"errors"`
	Prompt     int64 `json:"prompt_tokens"`
	Cached     int64 `json:"cached_tokens"`
	Completion int64 `json:"completion_tokens"`
	CostMicro  int64 `json:"cost_micro"`
}

func (a *app) usageCmd() *cobra.Command {
	var days int
	var by string
	c := &cobra.Command{Use: "usage", Short: "Requests, tokens and cost by day", Args: cobra.NoArgs}
	c.Flags().IntVar(&days, "days", 7, "days back from now")
	c.Flags().StringVar(&by, "by", "model", "model, key, user, project, provider or tenant")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		q := url.Values{"from": {time.Now().AddDate(0, 0, -days).UTC().Format(time.RFC3339)}, "to": {time.Now().Add(time.Minute).UTC().Format(time.RFC3339)}, "bucket": {"1d"}, "group_by": {by}}
		var u struct {
			Items []struct {
				usageTotals
				At      time.Time `json:"at"`
				Model   string    `json:"model,omitempty"`
				KeyName string    `json:"key_name,omitempty"`
				UserID  string    `json:"user_id,omitempty"`
				Project string    `json:"project_id,omitempty"`
				From    string    `json:"provider_id,omitempty"`
				Tenant  string    `json:"tenant_id,omitempty"`
			} `json:"items"`
			Totals usageTotals `json:"totals"`
		}
		if err := cl.do(ctx, http.MethodGet, "/usage?"+q.Encode(), nil, &u); err != nil {
			return err
		}
		return a.print(u, func(w io.Writer) {
			row(w, "DAY", "WHAT", "REQUESTS", "ERRORS", "PROMPT", "CACHED", "COMPLETION", "COST")
			for _, i := range u.Items {
				row(w, i.At.Format(time.DateOnly), orDash(first(i.Model, i.KeyName, i.UserID, i.Project, i.From, i.Tenant)), i.Requests, i.Errors, i.Prompt, i.Cached, i.Completion, invoice.Money(i.CostMicro))
			}
			t := u.Totals
			row(w, "total", "", t.Requests, t.Errors, t.Prompt, t.Cached, t.Completion, invoice.Money(t.CostMicro))
		})
	})
	return c
}

type jobView struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	State    string `json:"state"`
	Stage    string `json:"stage"`
	Progress *struct {
		Percent float64 `json:"percent"`
	} `json:"progress"`
	Waiting *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"waiting"`
	Error     *reasonView `json:"error"`
	CreatedAt time.Time   `json:"created_at"`
}

func (a *app) jobCmd() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "Background work: progress, reasons, retry"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List jobs", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		jobs, err := all[jobView](ctx, cl, "/jobs")
		if err != nil {
			return err
		}
		return a.print(jobs, func(w io.Writer) {
			row(w, "ID", "KIND", "STATE", "STAGE", "DONE", "WHY")
			for _, j := range jobs {
				done, why := "-", "-"
				if j.Progress != nil {
					done = fmt.Sprintf("%.0f%%", j.Progress.Percent)
				}
				if j.Waiting != nil {
					why = j.Waiting.Message
				} else if j.Error != nil {
					why = j.Error.Message
				}
				row(w, j.ID, j.Kind, j.State, orDash(j.Stage), done, why)
			}
		})
	})})
	for verb, short := range map[string]string{"cancel": "Cancel a job", "retry": "Run a failed job again"} {
		c.AddCommand(&cobra.Command{Use: verb + " ID", Short: short, Args: exactly(1, "the id of the job"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			var j jobView
			if err := cl.do(ctx, http.MethodPost, "/jobs/"+url.PathEscape(args[0])+"/"+verb, nil, &j); err != nil {
				return err
			}
			return a.print(j, func(w io.Writer) { row(w, j.ID, j.State) })
		})})
	}
	return c
}
