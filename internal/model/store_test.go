package model

import (
	"testing"

	"maas/internal/platform/db/dbtest"
)

func TestTables(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, dbtest.Source{Service: "model", FS: Migrations}, ".")
}
