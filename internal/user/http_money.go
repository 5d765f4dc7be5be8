package user

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
	"maas/internal/user/invoice"
	"maas/internal/user/ledger"
)

func (s *Service) moneyRoutes(api web.API, mux *web.Mux) {
	web.Get(api, "/prices", "user_price_list", "billing:read", http.StatusOK, s.httpPrices)
	web.Get(api, "/prices/current", "user_price_current", "billing:read", http.StatusOK, s.httpCurrentPrices)
	web.Post(api, "/prices", "user_price_create", "billing:operate", http.StatusCreated, s.httpSetPrice)
	web.Get(api, "/wallet", "user_wallet_get", "billing:read", http.StatusOK, s.httpWallet)
	web.Patch(api, "/wallet", "user_wallet_update", "billing:operate", http.StatusOK, s.httpSetWallet)
	for verb, kind := range map[string]ledger.JournalKind{"topup": ledger.TopUp, "adjust": ledger.Adjust, "refund": ledger.Refund, "payout": ledger.Payout} {
		web.Post(api, "/wallets/{id}/"+verb, "user_wallet_"+verb, "billing:operate", http.StatusCreated, func(ctx context.Context, in *postIn) (Journal, error) { return s.Post(ctx, in.ID, kind, in.Body) })
	}
	web.Get(api, "/ledger/journals", "user_journal_list", "billing:read_all", http.StatusOK, s.httpJournals)
	web.Get(api, "/ledger/journals/{id}", "user_journal_get", "billing:read_all", http.StatusOK, func(ctx context.Context, in *idIn) (Journal, error) { return s.Journal(ctx, in.ID) })
	web.Post(api, "/ledger/verify", "user_ledger_verify", "billing:operate", http.StatusOK, func(ctx context.Context, _ *struct{}) (LedgerReport, error) { return s.VerifyLedger(ctx) })
	web.Get(api, "/revenue", "user_revenue_sum", "billing:operate", http.StatusOK, s.httpRevenue)
	web.Get(api, "/usage/forecast", "user_usage_forecast", "billing:read", http.StatusOK, func(ctx context.Context, in *monthIn) (Forecast, error) { return s.Forecast(ctx, in.Month) })
	mux.Handle(http.MethodGet, "/usage/export.csv", "user_usage_export", "billing:read", http.HandlerFunc(s.httpExport))
	s.budgetRoutes(api)
	s.invoiceRoutes(api, mux)
}

func (s *Service) budgetRoutes(api web.API) {
	web.Get(api, "/budgets", "user_budget_list", "billing:read", http.StatusOK, s.httpBudgets)
	web.Post(api, "/budgets", "user_budget_create", "billing:write", http.StatusCreated, s.httpMakeBudget)
	web.Get(api, "/budgets/{id}", "user_budget_get", "billing:read_all", http.StatusOK, s.httpBudget)
	web.Patch(api, "/budgets/{id}", "user_budget_update", "billing:write", http.StatusOK, s.httpUpdateBudget)
	web.Delete(api, "/budgets/{id}", "user_budget_delete", "billing:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.DeleteBudget(ctx, in.ID) })
	web.Post(api, "/budgets/{id}/raise", "user_budget_raise", "billing:write", http.StatusOK, s.httpRaiseBudget)
	web.Get(api, "/quota", "user_quota_get", "billing:read", http.StatusOK, func(ctx context.Context, _ *struct{}) (Quota, error) { return s.MyQuota(ctx) })
}

func (s *Service) invoiceRoutes(api web.API, mux *web.Mux) {
	web.Get(api, "/statements", "user_statement_get", "billing:read_all", http.StatusOK, func(ctx context.Context, in *monthIn) (Statement, error) {
		return s.Statement(ctx, in.TenantID, in.Month)
	})
	mux.Handle(http.MethodGet, "/statements/{month}/pdf", "user_statement_pdf", "billing:read_all", s.paper(s.statementPaper, pdfPaper))
	mux.Handle(http.MethodGet, "/statements/{month}/csv", "user_statement_csv", "billing:read_all", s.paper(s.statementPaper, csvPaper))
	web.Get(api, "/invoices", "user_invoice_list", "billing:read_all", http.StatusOK, s.httpInvoices)
	web.Post(api, "/invoices", "user_invoice_create", "billing:operate", http.StatusCreated, s.httpMakeInvoice)
	web.Get(api, "/invoices/{id}", "user_invoice_get", "billing:read_all", http.StatusOK, s.httpInvoice)
	web.Post(api, "/invoices/{id}/issue", "user_invoice_issue", "billing:operate", http.StatusOK, func(ctx context.Context, in *idIn) (Invoice, error) { return s.IssueInvoice(ctx, in.ID) })
	web.Post(api, "/invoices/{id}/void", "user_invoice_void", "billing:operate", http.StatusOK, s.httpVoidInvoice)
	mux.Handle(http.MethodGet, "/invoices/{id}/pdf", "user_invoice_pdf", "billing:read_all", s.paper(s.invoicePaper, pdfPaper))
	mux.Handle(http.MethodGet, "/invoices/{id}/csv", "user_invoice_csv", "billing:read_all", s.paper(s.invoicePaper, csvPaper))
}

type pricesIn struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After string `query:"after" maxLength:"2048"`
	Model string `query:"model" maxLength:"256"`
	Cost  bool   `query:"cost" doc:"What providers take, for operators"`
}

func (s *Service) httpPrices(ctx context.Context, in *pricesIn) (page.List[Price], error) {
	return s.Prices(ctx, PriceFilter{Model: in.Model, Cost: in.Cost, Limit: in.Limit, After: in.After})
}

type priceList struct {
	Items    []Price `json:"items"`
	Next     *string `json:"next"`
	Currency string  `json:"currency"`
}

func (s *Service) httpCurrentPrices(ctx context.Context, _ *struct{}) (priceList, error) {
	list, err := s.CurrentPrices(ctx)
	return priceList{Items: list, Currency: s.currency()}, err
}

func (s *Service) httpSetPrice(ctx context.Context, in *struct{ Body NewPrice }) (Price, error) {
	return s.SetPrice(ctx, in.Body)
}

type tenantIn struct {
	TenantID string `query:"tenant_id" maxLength:"100" doc:"Operators may name another organisation"`
}

func (s *Service) httpWallet(ctx context.Context, in *tenantIn) (Wallet, error) {
	w, err := s.Wallet(ctx, in.TenantID)
	web.SetRev(ctx, w.Rev)
	return w, err
}

func (s *Service) httpSetWallet(ctx context.Context, in *struct {
	TenantID string `query:"tenant_id" maxLength:"100" doc:"Operators may name another organisation"`
	Body     WalletPatch
},
) (Wallet, error) {
	w, err := s.SetWallet(ctx, in.TenantID, in.Body, func(w Wallet) error { return web.CheckRev(ctx, w.Rev) })
	web.SetRev(ctx, w.Rev)
	return w, err
}

type postIn struct {
	ID   string `path:"id" maxLength:"100"`
	Body Posting
}

type journalsIn struct {
	Limit    int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After    string `query:"after" maxLength:"2048"`
	Kind     string `query:"kind" enum:",usage,topup,refund,payout,adjust"`
	TenantID string `query:"tenant_id" maxLength:"100" doc:"Operators may name another organisation"`
}

func (s *Service) httpJournals(ctx context.Context, in *journalsIn) (page.List[Journal], error) {
	return s.Journals(ctx, JournalFilter{Tenant: in.TenantID, Kind: in.Kind, Limit: in.Limit, After: in.After})
}

type revenueIn struct {
	From     time.Time `query:"from" doc:"Default: 30 days before now"`
	To       time.Time `query:"to" doc:"Default: now"`
	Bucket   string    `query:"bucket" enum:"1h,1d" default:"1d"`
	GroupBy  string    `query:"group_by" enum:",tenant,model,provider"`
	TenantID string    `query:"tenant_id" maxLength:"100"`
}

func (s *Service) httpRevenue(ctx context.Context, in *revenueIn) (RevenueReport, error) {
	return s.Revenue(ctx, RevenueQuery{From: in.From, To: in.To, Bucket: in.Bucket, GroupBy: in.GroupBy, Tenant: in.TenantID})
}

type monthIn struct {
	Month    string `query:"month" pattern:"^([0-9]{4}-[0-9]{2})?$" doc:"Like 2026-11; default: the month that runs"`
	TenantID string `query:"tenant_id" maxLength:"100" doc:"Operators may name another organisation"`
}

type budgetsIn struct {
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After   string `query:"after" maxLength:"2048"`
	Subject string `query:"subject" maxLength:"100" doc:"Id of the tenant, project, user or key"`
}

func (s *Service) httpBudgets(ctx context.Context, in *budgetsIn) (page.List[Budget], error) {
	return s.Budgets(ctx, BudgetFilter{Subject: in.Subject, Limit: in.Limit, After: in.After})
}

func (s *Service) httpMakeBudget(ctx context.Context, in *struct{ Body NewBudget }) (Budget, error) {
	b, err := s.MakeBudget(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/budgets/"+b.ID)
	}
	return b, err
}

func (s *Service) httpBudget(ctx context.Context, in *idIn) (Budget, error) {
	b, err := s.Budget(ctx, in.ID)
	web.SetRev(ctx, b.Rev)
	return b, err
}

func (s *Service) httpUpdateBudget(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body BudgetPatch
},
) (Budget, error) {
	b, err := s.UpdateBudget(ctx, in.ID, in.Body, func(b Budget) error { return web.CheckRev(ctx, b.Rev) })
	web.SetRev(ctx, b.Rev)
	return b, err
}

func (s *Service) httpRaiseBudget(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body Raise
},
) (Budget, error) {
	return s.RaiseBudget(ctx, in.ID, in.Body)
}

type invoicesIn struct {
	Limit    int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After    string `query:"after" maxLength:"2048"`
	State    string `query:"state" enum:",draft,issued,void"`
	TenantID string `query:"tenant_id" maxLength:"100" doc:"Operators may name another organisation, or * for all"`
}

func (s *Service) httpInvoices(ctx context.Context, in *invoicesIn) (page.List[Invoice], error) {
	return s.Invoices(ctx, InvoiceFilter{Tenant: in.TenantID, State: in.State, Limit: in.Limit, After: in.After})
}

func (s *Service) httpMakeInvoice(ctx context.Context, in *struct {
	Body struct {
		Month    string `json:"month" pattern:"^[0-9]{4}-[0-9]{2}$"`
		TenantID string `json:"tenant_id,omitempty" maxLength:"100" doc:"Default: the caller's organisation"`
	}
},
) (Invoice, error) {
	inv, err := s.MakeInvoice(ctx, in.Body.TenantID, in.Body.Month)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/invoices/"+inv.ID)
	}
	return inv, err
}

func (s *Service) httpInvoice(ctx context.Context, in *idIn) (Invoice, error) {
	inv, err := s.Invoice(ctx, in.ID)
	web.SetRev(ctx, inv.Rev)
	return inv, err
}

func (s *Service) httpVoidInvoice(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"500" doc:"Wanted for issued ones"`
	}
},
) (Invoice, error) {
	return s.VoidInvoice(ctx, in.ID, in.Body.Reason)
}

// paperForm is a way to write a document.
type paperForm struct {
	kind, ext string
	write     func(io.Writer, invoice.Document) error
}

var (
	pdfPaper = paperForm{"application/pdf", "pdf", invoice.PDF}
	csvPaper = paperForm{"text/csv; charset=utf-8", "csv", invoice.CSV}
)

// paper answers with a document as a file. It is written whole before the first byte goes out, so that a failure is an error and not half a file.
func (s *Service) paper(find func(r *http.Request, chinese bool) (invoice.Document, string, error), form paperForm) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, name, err := find(r, chinese(r))
		var b bytes.Buffer
		if err == nil {
			err = form.write(&b, d)
		}
		if err != nil {
			web.WriteProblem(w, r, err)
			return
		}
		w.Header().Set("Content-Type", form.kind)
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+"."+form.ext+`"`)
		w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(b.Bytes()) // the client left
	})
}

// chinese reports whether labels are wanted in Chinese: ?lang=zh, else what the browser prefers.
func chinese(r *http.Request) bool {
	lang := r.URL.Query().Get("lang")
	if lang == "" {
		lang = r.Header.Get("Accept-Language")
	}
	return strings.HasPrefix(strings.ToLower(lang), "zh")
}

func (s *Service) statementPaper(r *http.Request, chinese bool) (invoice.Document, string, error) {
	st, err := s.Statement(r.Context(), r.URL.Query().Get("tenant_id"), r.PathValue("month"))
	return st.document(chinese), "statement-" + st.Month, err
}

func (s *Service) invoicePaper(r *http.Request, chinese bool) (invoice.Document, string, error) {
	inv, err := s.Invoice(r.Context(), r.PathValue("id"))
	name := inv.Number
	if name == "" {
		name = "draft-" + inv.Month
	}
	return inv.document(chinese), name, err
}

func (s *Service) httpExport(w http.ResponseWriter, r *http.Request) {
	var q ExportQuery
	for name, to := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		text := r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			web.WriteProblem(w, r, ErrUsageQuery.With("%s is not a time like 2026-11-25T13:00:00Z", name))
			return
		}
		*to = at
	}
	begun := false
	err := s.Export(r.Context(), q, func() io.Writer {
		begun = true
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		w.Header().Set("Content-Disposition", `attachment; filename="usage.csv"`)
		return w
	})
	if err == nil {
		return
	}
	if begun { // half a file must not look whole
		panic(http.ErrAbortHandler)
	}
	web.WriteProblem(w, r, err)
}
