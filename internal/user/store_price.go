package user

import (
	"context"

	"maas/internal/platform/db"
)

func insertPrice(ctx context.Context, tx *db.Tx, p Price, version int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_price (id, tenant_id, provider, model, currency, input, cached_input, output, reasoning, request, valid_from, note, created_by, created_at, version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		p.ID, p.TenantID, p.Provider, p.Model, p.Currency, p.Input, p.CachedInput, p.Output, p.Reasoning, p.Request, db.Micro(p.ValidFrom), p.Note, p.CreatedBy, db.Micro(p.CreatedAt), version)
	return err
}

const priceCols = `id, tenant_id, provider, model, currency, input, cached_input, output, reasoning, request, valid_from, note, created_by, created_at FROM user_price `

func scanPrice(r db.Row) (Price, error) {
	var p Price
	var from, created int64
	err := r.Scan(&p.ID, &p.TenantID, &p.Provider, &p.Model, &p.Currency, &p.Input, &p.CachedInput, &p.Output, &p.Reasoning, &p.Request, &from, &p.Note, &p.CreatedBy, &created)
	p.ValidFrom, p.CreatedAt = db.FromMicro(from), db.FromMicro(created)
	return p, err
}

func scanPriceVersion(r db.Row) (PriceVersion, error) {
	p, err := scanPrice(r)
	return p.version(), err
}

func priceByID(ctx context.Context, q db.Querier, pid string) (PriceVersion, error) {
	return db.One(ctx, q, scanPriceVersion, `SELECT `+priceCols+`WHERE id = $1`, pid)
}

// pricesSince lists versions made after a version of the change counter.
func pricesSince(ctx context.Context, q db.Querier, since int64) ([]PriceVersion, error) {
	return db.List(ctx, q, scanPriceVersion, `SELECT `+priceCols+`WHERE version > $1 ORDER BY version, id`, since)
}

// pricesOf lists versions that begin before (at, id), newest first.
func pricesOf(ctx context.Context, q db.Querier, f PriceFilter, at int64, before string, limit int) ([]Price, error) {
	return db.List(ctx, q, scanPrice, `SELECT `+priceCols+`WHERE ($1 = '' OR tenant_id IN ('', $1)) AND ($2 = '' OR model = $2) AND (provider <> '') = $3 AND (valid_from, id) < ($4, $5) ORDER BY valid_from DESC, id DESC LIMIT $6`,
		f.tenant, f.Model, f.Cost, at, before, limit)
}
