// Package db opens the relational database and is the only way to it: transactions, snapshots, scanning, error translation and migrations.
//
// One SQL text serves SQLite and PostgreSQL: `$1` placeholders, types TEXT BIGINT DOUBLE PRECISION BOOLEAN BYTEA, times as BIGINT microseconds ([Micro]). What differs between the engines is listed in
// dbtest.Lint, which refuses it in migrations.
//
// Invariants: every write happens inside [DB.Tx] and every read inside [DB.Tx] or [DB.Read]; both need a tenant in the context unless the handle comes from [DB.System]. No call to another process, bucket or
// engine inside a transaction: it may be repeated. Errors of the drivers never leave this package: they arrive as the faults below.
//
// Engines register themselves under their URL scheme (db/sqlite, db/postgres; imported by platform/backends).
package db
