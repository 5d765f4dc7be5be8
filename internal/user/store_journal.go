package user

import (
	"context"

	"maas/internal/platform/db"
	"maas/internal/user/ledger"
)

const journalCols = `id, tenant_id, kind, ref, note, created_by, at FROM user_journal `

func scanJournal(r db.Row) (Journal, error) {
	var j Journal
	var at int64
	err := r.Scan(&j.ID, &j.TenantID, &j.Kind, &j.Reference, &j.Note, &j.CreatedBy, &at)
	j.At = db.FromMicro(at)
	return j, err
}

func journalByID(ctx context.Context, q db.Querier, tenant, jid string) (Journal, error) {
	return db.One(ctx, q, scanJournal, `SELECT `+journalCols+`WHERE id = $1 AND ($2 = '' OR tenant_id = $2)`, jid, tenant)
}

func journalsOf(ctx context.Context, q db.Querier, tenant, kind string, at int64, before string, limit int) ([]Journal, error) {
	return db.List(ctx, q, scanJournal, `SELECT `+journalCols+`WHERE tenant_id = $1 AND ($2 = '' OR kind = $2) AND (at, id) < ($3, $4) ORDER BY at DESC, id DESC LIMIT $5`, tenant, kind, at, before, limit)
}

// withEntries fills in the entries of at most a page of journals.
func withEntries(ctx context.Context, q db.Querier, rows []Journal) error {
	if len(rows) == 0 {
		return nil
	}
	args, at := make([]any, len(rows)), map[string]int{}
	for i := range rows {
		args[i], at[rows[i].ID], rows[i].Entries = rows[i].ID, i, []JournalEntry{}
	}
	type entry struct {
		journal string
		JournalEntry
	}
	list, err := db.List(ctx, q, func(r db.Row) (e entry, err error) {
		return e, r.Scan(&e.journal, &e.AccountID, &e.Account, &e.AmountMicro)
	}, `SELECT e.journal_id, e.account_id, a.kind, e.amount_micro FROM user_entry e JOIN user_account a ON a.id = e.account_id WHERE e.journal_id IN (`+db.In(1, len(rows))+`) ORDER BY e.journal_id, e.no`, args...)
	for _, e := range list {
		j := &rows[at[e.journal]]
		j.Entries = append(j.Entries, e.JournalEntry)
		if e.Account == ledger.Wallet {
			j.AmountMicro += e.AmountMicro
		}
	}
	return err
}
