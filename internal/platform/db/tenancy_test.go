package db_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
)

func TestRowsOfATenant(t *testing.T) {
	t.Parallel()
	source := dbtest.Source{Service: "zoo", FS: fstest.MapFS{"migrations/0001_init.sql": {Data: []byte(`-- +goose Up
CREATE TABLE zoo_house (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, door_hash TEXT NOT NULL, out_tokens BIGINT NOT NULL);
CREATE TABLE zoo_animal (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, house_id TEXT NOT NULL CONSTRAINT zoo_animal_house_id_fkey REFERENCES zoo_house (id), open BOOLEAN NOT NULL);
CREATE INDEX zoo_animal_house_id_idx ON zoo_animal (house_id);
CREATE TABLE zoo_keeper (id TEXT NOT NULL PRIMARY KEY);
`)}}}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		sys := d.System()
		require.NoError(t, sys.Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for _, q := range []string{
				`INSERT INTO zoo_house (id, tenant_id, door_hash, out_tokens) VALUES ('h1', 'ten_a', 'secret', 7), ('h2', 'ten_b', 'secret', 8)`,
				`INSERT INTO zoo_animal (id, tenant_id, house_id, open) VALUES ('a1', 'ten_a', 'h1', TRUE), ('a2', 'ten_a', 'h1', FALSE), ('a3', 'ten_b', 'h2', TRUE)`,
			} {
				if _, err := tx.Exec(ctx, q); err != nil {
					return err
				}
			}
			return nil
		}))
		tables, err := d.TenantTables(t.Context(), "zoo_")
		require.NoError(t, err)
		require.Equal(t, []string{"zoo_animal", "zoo_house"}, []string{tables[0].Name, tables[1].Name}, "children first")
		require.Len(t, tables, 2)
		require.True(t, slices.Contains(tables[1].Columns, "door_hash"))

		var b bytes.Buffer
		n, err := d.DumpTenant(t.Context(), tables[1], "ten_a", &b)
		require.NoError(t, err)
		require.Equal(t, int64(1), n)
		require.JSONEq(t, `{"id": "h1", "tenant_id": "ten_a", "out_tokens": 7}`, b.String())
		b.Reset()
		n, err = d.DumpTenant(t.Context(), tables[0], "ten_a", &b)
		require.NoError(t, err)
		require.Equal(t, int64(2), n)
		require.NotContains(t, b.String(), "a3")

		for _, table := range tables {
			require.NoError(t, sys.Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				n, err := tx.DeleteOf(ctx, table, "ten_a", 1)
				require.Equal(t, int64(1), n, "no more than asked for")
				if err == nil && table.Name == "zoo_animal" {
					_, err = tx.DeleteOf(ctx, table, "ten_a", 10)
				}
				return err
			}))
			n, err := d.DumpTenant(t.Context(), table, "ten_a", &b)
			require.NoError(t, err)
			require.Zero(t, n)
			n, err = d.DumpTenant(t.Context(), table, "ten_b", &b)
			require.NoError(t, err)
			require.Equal(t, int64(1), n)
		}
	}, source)
}
