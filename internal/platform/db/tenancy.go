package db

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// TenantTable is a table whose rows belong to tenants.
type TenantTable struct {
	Name    string
	Columns []string // in the order of the table
}

// TenantTables lists the tables with a column tenant_id whose name begins with one of the prefixes (all without one), those that refer to others before those they refer to: the order in which rows can be
// deleted.
func (d *DB) TenantTables(ctx context.Context, prefixes ...string) ([]TenantTable, error) {
	columns, keys := `SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid`,
		`SELECT m.name, k."table" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) k WHERE m.type = 'table' ORDER BY 1, 2`
	if d.driver.Dialect == Postgres {
		columns = `SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position`
		keys = `SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace ORDER BY 1, 2`
	}
	type pair struct{ a, b string }
	scan := func(r Row) (p pair, err error) { return p, r.Scan(&p.a, &p.b) }
	var cols, refs []pair
	err := d.System().Read(ctx, func(ctx context.Context, q *Query) (err error) {
		if cols, err = List(ctx, q, scan, columns); err != nil {
			return err
		}
		refs, err = List(ctx, q, scan, keys)
		return err
	})
	if err != nil {
		return nil, err
	}
	tables := map[string]*TenantTable{}
	var names []string
	for _, c := range cols {
		if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(c.a, p) }) {
			continue
		}
		if tables[c.a] == nil {
			tables[c.a] = &TenantTable{Name: c.a}
			names = append(names, c.a)
		}
		tables[c.a].Columns = append(tables[c.a].Columns, c.b)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(tables[n].Columns, "tenant_id") })
	var list []TenantTable
	for len(names) > 0 { // repeatedly those that nobody left refers to
		free := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
			return slices.ContainsFunc(refs, func(r pair) bool { return r.b == n && r.a != n && slices.Contains(names, r.a) })
		})
		if len(free) == 0 {
			free = names // a circle: the caller's deletes must come in the right order by themselves
		}
		for _, n := range free {
			list = append(list, *tables[n])
		}
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(free, n) })
	}
	return list, nil
}

// DeleteOf removes up to most rows of a tenant from a table of TenantTables and returns how many there were.
func (t *Tx) DeleteOf(ctx context.Context, table TenantTable, tenant string, most int) (int64, error) {
	row := "rowid"
	if t.d.driver.Dialect == Postgres {
		row = "ctid"
	}
	return t.Exec(ctx, `DELETE FROM `+table.Name+` WHERE tenant_id = $1 AND `+row+` IN (SELECT `+row+` FROM `+table.Name+` WHERE tenant_id = $1 LIMIT $2)`, tenant, most)
}

// secretColumn recognises columns that leave no installation: texts and hashes of credentials, sealed values.
func secretColumn(name string) bool {
	for _, part := range []string{"hash", "sealed", "secret", "password", "private", "token"} {
		if strings.Contains(name, part) {
			return !strings.HasSuffix(name, "tokens") && name != "sha256"
		}
	}
	return false
}

// dumpRows is how many rows one snapshot of a dump reads.
const dumpRows = 5000

// DumpTenant writes the rows of a tenant in a table of TenantTables as JSON lines, without the columns that hold secrets, and returns how many there were. It reads in pieces, so a large table is not one
// moment's picture.
func (d *DB) DumpTenant(ctx context.Context, table TenantTable, tenant string, w io.Writer) (int64, error) {
	columns := slices.DeleteFunc(slices.Clone(table.Columns), secretColumn)
	place, after := "rowid", "0"
	if d.driver.Dialect == Postgres {
		place, after = "ctid", "(0,0)"
	}
	out := json.NewEncoder(w)
	for n := int64(0); ; {
		read := 0
		err := d.System().Read(ctx, func(ctx context.Context, q *Query) error {
			var lines []map[string]any
			var err error
			if lines, err = List(ctx, q, func(r Row) (map[string]any, error) {
				values, dest := make([]any, len(columns)), make([]any, len(columns)+1)
				for i := range values {
					dest[i+1] = &values[i]
				}
				dest[0] = &after
				if err := r.Scan(dest...); err != nil {
					return nil, err
				}
				line := make(map[string]any, len(columns))
				for i, c := range columns {
					line[c] = values[i]
					if b, ok := values[i].([]byte); ok && utf8.Valid(b) {
						line[c] = string(b)
					}
				}
				return line, nil
			}, `SELECT CAST(`+place+` AS TEXT), `+strings.Join(columns, ", ")+` FROM `+table.Name+` WHERE tenant_id = $1 AND `+place+` > `+placeOf(d, after)+` ORDER BY `+place+` LIMIT $2`, tenant, dumpRows); err != nil {
				return err
			}
			read = len(lines)
			for _, line := range lines {
				if err := out.Encode(line); err != nil {
					return err
				}
			}
			return nil
		})
		n += int64(read)
		if err != nil || read < dumpRows {
			return n, err
		}
	}
}

// placeOf is the place of a row as the engine wrote it, as a literal.
func placeOf(d *DB, place string) string {
	if d.driver.Dialect == Postgres {
		return "'" + place + "'::tid"
	}
	return place
}
