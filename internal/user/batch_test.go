package user

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/id"
)

// Every value of a row counts in the digest of its batch: a copy of a data folder must not pass for the original.
func TestDigestSeesEveryField(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	note := func(name string, u Usage) {
		d := (&Batch{Rows: []Usage{u}}).digest()
		if other, twice := seen[d]; twice {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
	note("nothing", Usage{At: time.Unix(1, 0)})
	for i := range reflect.TypeFor[Usage]().NumField() {
		u := Usage{At: time.Unix(1, 0)}
		f := reflect.ValueOf(&u).Elem().Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Int, reflect.Int64:
			f.SetInt(7)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			u.Lost = []Lost{{InFresh: 1}}
			note("lost with a provider", Usage{At: time.Unix(1, 0), Lost: []Lost{{ProviderID: "p", InFresh: 1}}})
		default:
			u.At = time.Unix(2, 0)
		}
		note(reflect.TypeFor[Usage]().Field(i).Name, u)
	}
}

// Rows go in many at a time; those that are known are left out one by one.
func TestInsertUsageTellsWhatIsNew(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var rows []bookedRow
		for i := range 2*usageTogether + 5 {
			rows = append(rows, bookedRow{Usage: &Usage{RequestID: id.New("req"), At: time.Now(), TenantID: "ten_1", Model: fmt.Sprint("m", i), End: EndDone, Source: SourceUpstream}})
		}
		insert := func(list []bookedRow) (fresh []bookedRow) {
			require.NoError(t, d.System().Tx(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
				fresh, err = insertUsage(ctx, tx, list)
				return err
			}))
			return fresh
		}
		first := append(append([]bookedRow{}, rows[3:10]...), rows[40], rows[40])
		require.Equal(t, first[:8], insert(first))
		var want []bookedRow
		for i, r := range rows {
			if (i < 3 || i >= 10) && i != 40 {
				want = append(want, r)
			}
		}
		require.Equal(t, want, insert(rows))
		require.Empty(t, insert(rows))
	}, dbtest.Source{Service: "user", FS: Migrations})
}
