package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"maas/internal/platform/db"
)

// The second wall between tenants is row-level security (https://www.postgresql.org/docs/current/ddl-rowsecurity.html). Every transaction takes on one of two roles without login: appRole sees the rows of the
// one tenant that stands in the setting maas.tenant, systemRole sees all. Neither owns a table, so neither can go around a policy; the owner, which only migrations act as, can, because they move data of all.
const (
	appRole    = "maas_app"
	systemRole = "maas_system"
)

type wall struct {
	up   atomic.Bool
	keys atomic.Pointer[map[string][]string] // unique index -> its columns: behind the wall the server does not say which key was taken
}

// enter gives a transaction its role, until its end.
func (w *wall) enter(ctx context.Context, tx *sql.Tx, tenant string, system bool) error {
	if !w.up.Load() {
		return nil
	}
	role := appRole
	if system {
		role = systemRole
	}
	_, err := tx.ExecContext(ctx, `SELECT set_config('role', $1, true), set_config('maas.tenant', $2, true)`, role, tenant)
	return err
}

// find tells whether the tables of this database stand behind the wall and this login may pass through it.
func (w *wall) find(ctx context.Context, pool *sql.DB) error {
	var up bool
	err := pool.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_policies WHERE schemaname = current_schema() AND policyname = 'tenant') AND EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '`+systemRole+`' AND pg_has_role(oid, 'MEMBER'))`).Scan(&up)
	if err != nil || !up {
		return err
	}
	return w.raise(ctx, pool)
}

// raise has all transactions from now on pass through the wall.
func (w *wall) raise(ctx context.Context, pool *sql.DB) error {
	rows, err := pool.QueryContext(ctx, `SELECT c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = current_schema()::regnamespace AND i.indisunique ORDER BY c.relname, a.attnum`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	keys := map[string][]string{}
	for rows.Next() {
		var name, column string
		if err := rows.Scan(&name, &column); err != nil {
			return err
		}
		keys[name] = append(keys[name], column)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	w.keys.Store(&keys)
	w.up.Store(true)
	return nil
}

// translate is translate with the columns of a taken key.
func (w *wall) translate(err error) error {
	var e *pgconn.PgError
	if keys := w.keys.Load(); keys != nil && errors.As(err, &e) && e.Code == "23505" && e.Detail == "" {
		return db.Violation(db.ErrDuplicate, (*keys)[e.ConstraintName], err)
	}
	return translate(err)
}

// build makes the roles and the policies of tables that have none yet. mode "off" does nothing; "auto" gives up without an error where the login may not make roles.
func (w *wall) build(ctx context.Context, pool *sql.DB, mode string) error {
	if mode == "off" {
		return nil
	}
	if err := roles(ctx, pool); err != nil {
		var e *pgconn.PgError
		if mode != "on" && errors.As(err, &e) && e.Code == "42501" { // insufficient_privilege
			return nil
		}
		return err
	}
	var schema string
	if err := pool.QueryRowContext(ctx, `SELECT current_schema()`).Scan(&schema); err != nil {
		return err
	}
	in := pgx.Identifier{schema}.Sanitize()
	both := appRole + ", " + systemRole
	text := []string{
		`GRANT USAGE ON SCHEMA ` + in + ` TO ` + both,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + in + ` TO ` + both,
		`ALTER DEFAULT PRIVILEGES IN SCHEMA ` + in + ` GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ` + both,
	}
	tables, err := unwalled(ctx, pool)
	if err != nil {
		return err
	}
	for _, t := range tables {
		name := in + "." + pgx.Identifier{t}.Sanitize()
		text = append(text,
			`ALTER TABLE `+name+` ENABLE ROW LEVEL SECURITY`,
			`CREATE POLICY tenant ON `+name+` TO `+appRole+` USING (tenant_id = current_setting('maas.tenant', true)) WITH CHECK (tenant_id = current_setting('maas.tenant', true))`,
			`CREATE POLICY system ON `+name+` TO `+systemRole+` USING (true) WITH CHECK (true)`)
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	for _, s := range text {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return w.raise(ctx, pool)
}

// roles makes the two roles and this login a member of them. They belong to the whole server: other databases of it may be doing the same at this moment.
func roles(ctx context.Context, pool *sql.DB) error {
	for _, role := range []string{appRole, systemRole} {
		var there, member bool
		find := func() error {
			return pool.QueryRowContext(ctx, `SELECT COUNT(*) > 0, COALESCE(bool_or(pg_has_role(oid, 'MEMBER')), false) FROM pg_roles WHERE rolname = $1`, role).Scan(&there, &member)
		}
		if err := find(); err != nil {
			return err
		}
		if !there {
			if _, err := pool.ExecContext(ctx, `CREATE ROLE `+role+` NOLOGIN NOINHERIT`); err != nil && !meanwhile(err) {
				return err
			}
			if err := find(); err != nil {
				return err
			}
		}
		if !member {
			if _, err := pool.ExecContext(ctx, `GRANT `+role+` TO CURRENT_USER`); err != nil && !meanwhile(err) {
				return err
			}
		}
	}
	return nil
}

// meanwhile reports that another session made the same change first.
func meanwhile(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "42710" || e.Code == "23505" || strings.Contains(e.Message, "concurrently updated"))
}

// unwalled lists the tables with a tenant and without the wall.
func unwalled(ctx context.Context, pool *sql.DB) ([]string, error) {
	rows, err := pool.QueryContext(ctx, `SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant') ORDER BY c.relname`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		list = append(list, name)
	}
	return list, rows.Err()
}

var _ db.Wall = (*wall)(nil).enter
