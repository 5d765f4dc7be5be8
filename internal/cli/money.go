package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"maas/internal/user"
	"maas/internal/user/invoice"
	"maas/internal/user/ledger"
)

// amount reads a decimal amount of the currency as micro-units.
func amount(flag, text string) (int64, error) {
	n, ok := ledger.Parse(text)
	if !ok {
		return 0, errUsage{fmt.Errorf("%s: %q is no amount like 12.50 (at most six decimals)", flag, text)}
	}
	return n, nil
}

func (a *app) priceCmd() *cobra.Command {
	c := &cobra.Command{Use: "price", Short: "What calls of a model cost"}
	var old bool
	list := &cobra.Command{Use: "list", Short: "Prices that hold now, per million tokens", Args: cobra.NoArgs}
	list.Flags().BoolVar(&old, "all", false, "every version, old and coming ones too")
	list.RunE = a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		prices, err := all[user.Price](ctx, cl, map[bool]string{true: "/prices", false: "/prices/current"}[old])
		if err != nil {
			return err
		}
		return a.print(prices, func(w io.Writer) {
			row(w, "MODEL", "FOR", "INPUT", "CACHED", "OUTPUT", "REASONING", "CALL", "", "FROM", "UNTIL")
			for _, p := range prices {
				until := "-"
				if !p.ValidUntil.IsZero() {
					until = p.ValidUntil.Format(time.DateTime)
				}
				row(w, p.Model, first(p.TenantID, "all"), invoice.Money(p.Input), invoice.Money(p.CachedInput), invoice.Money(p.Output), invoice.Money(p.Reasoning), invoice.Money(p.Request), p.Currency, p.ValidFrom.Format(time.DateTime), until)
			}
		})
	})
	c.AddCommand(list, a.priceSetCmd())
	return c
}

func (a *app) priceSetCmd() *cobra.Command {
	var tenant, provider, from, note string
	amounts := map[string]*string{}
	c := &cobra.Command{
		Use: "set MODEL", Short: "Begin a new version of a price; * stands for all models without one", Args: exactly(1, "the public name of the model, or *"),
		Example: "  maas price set qwen3-8b --input 2 --cached-input 0.5 --output 8\n  maas price set '*' --input 1 --output 2 --from 2027-01-01T00:00:00+08:00",
	}
	for _, f := range [][2]string{{"input", "per million input tokens"}, {"cached-input", "per million input tokens from a cache (default: as input)"}, {"output", "per million output tokens"}, {"reasoning", "per million reasoning tokens (default: as output)"}, {"request", "per call"}} {
		amounts[f[0]] = c.Flags().String(f[0], "", f[1])
	}
	c.Flags().StringVar(&tenant, "tenant", "", "organisation with a price of its own")
	c.Flags().StringVar(&provider, "provider", "", "id of the provider whose cost this is")
	c.Flags().StringVar(&from, "from", "", "RFC 3339 time when it begins (default: now)")
	c.Flags().StringVar(&note, "note", "", "why")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		body := map[string]any{"model": args[0]}
		for flag, field := range map[string]string{"input": "input_micro_per_mtok", "cached-input": "cached_input_micro_per_mtok", "output": "output_micro_per_mtok", "reasoning": "reasoning_micro_per_mtok", "request": "request_micro"} {
			if *amounts[flag] == "" {
				continue
			}
			n, err := amount("--"+flag, *amounts[flag])
			if err != nil {
				return err
			}
			body[field] = n
		}
		for field, v := range map[string]string{"tenant_id": tenant, "provider": provider, "valid_from": from, "note": note} {
			if v != "" {
				body[field] = v
			}
		}
		var p user.Price
		if err := cl.do(ctx, http.MethodPost, "/prices", body, &p); err != nil {
			return err
		}
		return a.print(p, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %s in, %s out per million tokens, %s per call (%s), from %s\n", p.Model, invoice.Money(p.Input), invoice.Money(p.Output), invoice.Money(p.Request), p.Currency, p.ValidFrom.Format(time.DateTime))
		})
	})
	return c
}

func (a *app) printWallet(w user.Wallet) error {
	return a.print(w, func(out io.Writer) {
		row(out, "WALLET", "MODE", "BALANCE", "HELD", "CREDIT", "", "REFUSES")
		row(out, w.ID, w.Mode, invoice.Money(w.BalanceMicro), invoice.Money(w.LeasedMicro), invoice.Money(w.CreditMicro), w.Currency, map[bool]string{true: "when used up", false: "never"}[w.Limited])
	})
}

func walletPath(tenant string) string {
	if tenant == "" {
		return "/wallet"
	}
	return "/wallet?" + url.Values{"tenant_id": {tenant}}.Encode()
}

func (a *app) walletCmd() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "wallet", Short: "What the organisation has to spend"}
	c.PersistentFlags().StringVar(&tenant, "tenant", "", "another organisation (operators)")
	c.AddCommand(&cobra.Command{Use: "show", Short: "Balance, mode and credit", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		var w user.Wallet
		if err := cl.do(ctx, http.MethodGet, walletPath(tenant), nil, &w); err != nil {
			return err
		}
		return a.printWallet(w)
	})})
	var credit string
	mode := &cobra.Command{Use: "mode prepaid|postpaid", Short: "Whether calls are refused when it is used up", Args: exactly(1, "prepaid or postpaid")}
	mode.Flags().StringVar(&credit, "credit", "", "how far below zero the balance may go")
	mode.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		body := map[string]any{"mode": args[0]}
		if credit != "" {
			n, err := amount("--credit", credit)
			if err != nil {
				return err
			}
			body["credit_micro"] = n
		}
		var w user.Wallet
		if err := cl.do(ctx, http.MethodPatch, walletPath(tenant), body, &w); err != nil {
			return err
		}
		return a.printWallet(w)
	})
	c.AddCommand(mode)
	for _, v := range [][2]string{{"topup", "Book money that came in"}, {"payout", "Book money that went back"}, {"refund", "Give a charge back"}, {"adjust", "Correct the balance, up or down"}} {
		c.AddCommand(a.walletPostCmd(v[0], v[1], &tenant))
	}
	return c
}

func (a *app) walletPostCmd(verb, short string, tenant *string) *cobra.Command {
	var reference, note string
	c := &cobra.Command{Use: verb + " AMOUNT", Short: short, Args: exactly(1, "the amount in the currency, like 100.00"), Example: "  maas wallet " + verb + " 100.00 --reference 'bank 2026-11-25 #4711' --note 'November'"}
	c.Flags().StringVar(&reference, "reference", "", "of the payment or the reason; each is booked once")
	c.Flags().StringVar(&note, "note", "", "for the books")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		n, err := amount("AMOUNT", args[0])
		if err != nil {
			return err
		}
		if reference == "" {
			return errUsage{errors.New("--reference is needed: it keeps a payment from being booked twice")}
		}
		var w user.Wallet
		if err := cl.do(ctx, http.MethodGet, walletPath(*tenant), nil, &w); err != nil {
			return err
		}
		var j user.Journal
		if err := cl.do(ctx, http.MethodPost, "/wallets/"+url.PathEscape(w.ID)+"/"+verb, map[string]any{"amount_micro": n, "reference": reference, "note": note}, &j); err != nil {
			return err
		}
		return a.print(j, func(out io.Writer) {
			fmt.Fprintf(out, "Booked %s %s (%s); the balance is %s %s.\n", invoice.Money(j.AmountMicro), w.Currency, j.ID, invoice.Money(w.BalanceMicro+j.AmountMicro), w.Currency)
		})
	})
	return c
}

// budgetAmount writes an amount in the unit of a budget.
func budgetAmount(b *user.Budget, n int64) string {
	if b.Unit == "money" {
		return invoice.Money(n)
	}
	return invoice.Grouped(n)
}

func (a *app) printBudgets(v any, list ...user.Budget) error {
	return a.print(v, func(w io.Writer) {
		row(w, "ID", "NAME", "OF", "UNIT", "LIMIT", "PER", "USED", "LEFT", "STATE", "HARD", "UNTIL")
		for i := range list {
			b := &list[i]
			until := "-"
			if !b.PeriodEnd.IsZero() {
				until = b.PeriodEnd.Format(time.DateTime)
			}
			row(w, b.ID, orDash(b.Name), b.Subject.Kind+" "+b.Subject.ID, b.Unit, budgetAmount(b, b.Limit+b.Extra), b.Window, budgetAmount(b, b.Used), budgetAmount(b, b.Left), b.State, map[bool]string{true: "yes", false: "no"}[b.Hard], until)
		}
	})
}

func (a *app) budgetCmd() *cobra.Command {
	c := &cobra.Command{Use: "budget", Short: "Limits of money, tokens and requests in calendar windows"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "Budgets and what is left of them", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		list, err := all[user.Budget](ctx, cl, "/budgets")
		if err != nil {
			return err
		}
		return a.printBudgets(list, list...)
	})}, a.budgetSetCmd(), a.budgetRaiseCmd(), &cobra.Command{Use: "delete ID", Short: "End a budget", Args: exactly(1, "the id of the budget"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		return cl.do(ctx, http.MethodDelete, "/budgets/"+url.PathEscape(args[0]), nil, nil)
	})})
	return c
}

func (a *app) budgetSetCmd() *cobra.Command {
	var kind, id, unit, limit, window, name string
	var hard bool
	c := &cobra.Command{Use: "add", Short: "Make a budget", Args: cobra.NoArgs, Example: "  maas budget add --of tenant --unit money --limit 500 --per month --hard\n  maas budget add --of key --id key_.. --unit tokens --limit 1000000 --per day"}
	c.Flags().StringVar(&kind, "of", "tenant", "tenant, project, user or key")
	c.Flags().StringVar(&id, "id", "", "id of the project, user or key")
	c.Flags().StringVar(&unit, "unit", "money", "money, tokens or requests")
	c.Flags().StringVar(&limit, "limit", "", "an amount of the currency, or a number")
	c.Flags().StringVar(&window, "per", "month", "day, week, month or total")
	c.Flags().StringVar(&name, "name", "", "what it is for")
	c.Flags().BoolVar(&hard, "hard", false, "refuse calls when it is used up")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		n, err := budgetNumber("--limit", unit, limit)
		if err != nil {
			return err
		}
		var b user.Budget
		if err := cl.do(ctx, http.MethodPost, "/budgets", map[string]any{"subject": map[string]string{"kind": kind, "id": id}, "unit": unit, "limit": n, "window": window, "hard": hard, "name": name}, &b); err != nil {
			return err
		}
		return a.printBudgets(b, b)
	})
	return c
}

// budgetNumber reads an amount in the unit of a budget.
func budgetNumber(flag, unit, text string) (int64, error) {
	if unit == "money" {
		return amount(flag, text)
	}
	n, ok := ledger.Parse(text)
	if !ok || n%1_000_000 != 0 {
		return 0, errUsage{fmt.Errorf("%s: %q is no whole number", flag, text)}
	}
	return n / 1_000_000, nil
}

func (a *app) budgetRaiseCmd() *cobra.Command {
	var until time.Duration
	var reason string
	c := &cobra.Command{Use: "raise ID AMOUNT", Short: "Lift the limit for a time; 0 ends it", Args: exactly(2, "the id of the budget and the amount to add"), Example: "  maas budget raise bud_.. 100 --for 72h --reason 'launch week'"}
	c.Flags().DurationVar(&until, "for", 24*time.Hour, "how long")
	c.Flags().StringVar(&reason, "reason", "", "why")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var b user.Budget
		path := "/budgets/" + url.PathEscape(args[0])
		if err := cl.do(ctx, http.MethodGet, path, nil, &b); err != nil {
			return err
		}
		n, err := budgetNumber("AMOUNT", string(b.Unit), args[1])
		if err != nil {
			return err
		}
		if err := cl.do(ctx, http.MethodPost, path+"/raise", map[string]any{"amount": n, "until": time.Now().Add(until).UTC().Format(time.RFC3339), "reason": reason}, &b); err != nil {
			return err
		}
		return a.printBudgets(b, b)
	})
	return c
}

func (a *app) printInvoices(v any, list ...user.Invoice) error {
	return a.print(v, func(w io.Writer) {
		row(w, "ID", "NUMBER", "MONTH", "STATE", "NET", "TAX", "TOTAL", "", "FOR")
		for _, i := range list {
			row(w, i.ID, orDash(i.Number), i.Month, i.State, invoice.Money(i.NetMicro), invoice.Money(i.TaxMicro), invoice.Money(i.TotalMicro), i.Currency, first(i.Customer...))
		}
	})
}

func (a *app) invoiceCmd() *cobra.Command {
	c := &cobra.Command{Use: "invoice", Short: "Bills of a month"}
	var tenant string
	list := &cobra.Command{Use: "list", Short: "List invoices", Args: cobra.NoArgs}
	create := &cobra.Command{Use: "create MONTH", Short: "Draft the invoice of a month", Args: exactly(1, "a month like 2026-11")}
	for _, v := range []*cobra.Command{list, create} {
		v.Flags().StringVar(&tenant, "tenant", "", "another organisation (operators; * lists all)")
	}
	list.RunE = a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		path := "/invoices"
		if tenant != "" {
			path += "?" + url.Values{"tenant_id": {tenant}}.Encode()
		}
		l, err := all[user.Invoice](ctx, cl, path)
		if err != nil {
			return err
		}
		return a.printInvoices(l, l...)
	})
	create.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var i user.Invoice
		if err := cl.do(ctx, http.MethodPost, "/invoices", map[string]any{"month": args[0], "tenant_id": tenant}, &i); err != nil {
			return err
		}
		return a.printInvoices(i, i)
	})
	issue := &cobra.Command{Use: "issue ID", Short: "Number a draft and close it for changes", Args: exactly(1, "the id of the invoice"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var i user.Invoice
		if err := cl.do(ctx, http.MethodPost, "/invoices/"+url.PathEscape(args[0])+"/issue", nil, &i); err != nil {
			return err
		}
		return a.printInvoices(i, i)
	})}
	var reason string
	void := &cobra.Command{Use: "void ID", Short: "Take an invoice back", Args: exactly(1, "the id of the invoice"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var i user.Invoice
		if err := cl.do(ctx, http.MethodPost, "/invoices/"+url.PathEscape(args[0])+"/void", map[string]any{"reason": reason}, &i); err != nil {
			return err
		}
		return a.printInvoices(i, i)
	})}
	void.Flags().StringVar(&reason, "reason", "", "why; needed for issued ones")
	c.AddCommand(list, create, issue, void, a.invoiceGetCmd())
	return c
}

func (a *app) invoiceGetCmd() *cobra.Command {
	var file, lang string
	c := &cobra.Command{Use: "get ID", Short: "Fetch an invoice as PDF or CSV, by the ending of --file", Args: exactly(1, "the id of the invoice"), Example: "  maas invoice get inv_.. --file november.pdf --lang zh"}
	c.Flags().StringVar(&file, "file", "invoice.pdf", "where to write: .pdf or .csv")
	c.Flags().StringVar(&lang, "lang", "en", "language of the labels: en or zh")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		form := "pdf"
		if len(file) > 4 && file[len(file)-4:] == ".csv" {
			form = "csv"
		}
		resp, err := cl.send(ctx, http.MethodGet, "/api/v1/invoices/"+url.PathEscape(args[0])+"/"+form+"?lang="+url.QueryEscape(lang), nil, nil)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return problemOf(resp)
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
		a.say("Wrote %s.", file)
		return nil
	})
	return c
}

// printLedger shows a verification and fails when something does not add up.
func (a *app) printLedger(r user.LedgerReport) error {
	if err := a.print(r, func(w io.Writer) {
		for _, c := range r.Checks {
			row(w, map[bool]string{true: "ok", false: "FAILED"}[c.OK], c.ID, c.Detail)
		}
	}); err != nil || r.OK {
		return err
	}
	return exitError{exitFail}
}

func (a *app) ledgerCmd() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "The books"}
	c.AddCommand(&cobra.Command{Use: "verify", Short: "Check that the books add up", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		var r user.LedgerReport
		if err := cl.do(ctx, http.MethodPost, "/ledger/verify", nil, &r); err != nil {
			return err
		}
		return a.printLedger(r)
	})}, &cobra.Command{Use: "journals", Short: "Postings, newest first", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		list, err := all[user.Journal](ctx, cl, "/ledger/journals")
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) {
			row(w, "ID", "AT", "KIND", "AMOUNT", "REFERENCE", "NOTE")
			for _, j := range list {
				row(w, j.ID, j.At.Format(time.DateTime), j.Kind, invoice.Money(j.AmountMicro), j.Reference, orDash(j.Note))
			}
		})
	})})
	return c
}
