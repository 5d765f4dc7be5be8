package user

import (
	"context"
	"encoding/csv"
	"io"
	"strconv"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/user/invoice"
)

// ExportQuery is the span of an export.
type ExportQuery struct{ From, To time.Time }

const exportPage = 2000

// Export writes the single calls of a span as CSV, oldest first: of the whole team for those with billing:read_all, else the caller's. begin is called before the first byte; an error before it has written
// nothing.
func (s *Service) Export(ctx context.Context, q ExportQuery, begin func() io.Writer) error {
	who, _ := auth.From(ctx)
	if q.To.IsZero() {
		q.To = s.Now()
	}
	if q.From.IsZero() {
		q.From = q.To.AddDate(0, 0, -31)
	}
	if span := q.To.Sub(q.From); span <= 0 || span > dayMost {
		return ErrUsageQuery.WithFields(fault.Field{Name: "query.from", Code: "out_of_range", Message: "must lie before `to`, by at most 400 days"})
	}
	at, after := db.Micro(q.From), ""
	var out *csv.Writer
	for {
		var rows []UsageRequest
		err := s.db.Read(ctx, func(ctx context.Context, tx *db.Query) error {
			var err error
			rows, err = usageAfter(ctx, tx, who.TenantID, usageOwner(who), at, after, db.Micro(q.To), exportPage)
			return err
		})
		if err != nil {
			return err
		}
		if out == nil {
			out = csv.NewWriter(begin())
			if err := out.Write(exportHead); err != nil {
				return err
			}
		}
		for i := range rows {
			if err := out.Write(rows[i].csv(s.currency())); err != nil {
				return err
			}
		}
		if out.Flush(); out.Error() != nil || len(rows) < exportPage {
			return out.Error()
		}
		last := rows[len(rows)-1]
		at, after = db.Micro(last.At), last.RequestID
	}
}

var exportHead = []string{
	"at", "request_id", "client_request_id", "model", "operation", "key_id", "key_name", "user_id", "project_id", "provider_id", "deployment_id", "stream", "status", "end", "attempts",
	"input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "source", "currency", "price_version", "price_micro", "ttft_ms", "duration_ms",
}

func (u *UsageRequest) csv(currency string) []string {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return []string{
		u.At.UTC().Format(time.RFC3339Nano), u.RequestID, invoice.Cell(u.ClientRequestID), invoice.Cell(u.Model), u.Op, u.KeyID, invoice.Cell(u.KeyName), u.UserID, u.ProjectID, u.ProviderID, u.DeploymentID,
		strconv.FormatBool(u.Stream), strconv.Itoa(u.Status), u.End, strconv.Itoa(u.Attempts), n(u.PromptTokens - u.CachedTokens), n(u.CachedTokens), n(u.CompletionTokens - u.ReasoningTokens), n(u.ReasoningTokens), u.Source,
		currency, u.PriceVersion, invoice.Money(u.PricePico), n(u.TTFTMS), n(u.DurationMS),
	}
}
