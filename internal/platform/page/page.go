// Package page holds keyset paging: a cursor is the sort values and id of the last row seen, bound to the filter of the list by a keyed hash.
package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"maas/internal/platform/fault"
)

// ErrBadCursor is answered to a cursor that is foreign, altered or belongs to another filter.
var ErrBadCursor = fault.New(fault.Invalid, "web.bad_cursor", "this cursor does not belong to this list").WithHint("Start again without `after`")

// Limits of a page.
const (
	DefaultLimit = 50
	MaxLimit     = 200
)

// List is the answer form of every list: Next is the cursor of the following page, null at the end.
type List[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
	Total *int64  `json:"total,omitempty"`
}

// Limit clamps a wanted page size into 1..MaxLimit; 0 gives DefaultLimit.
func Limit(n int) int {
	if n <= 0 {
		return DefaultLimit
	}
	return min(n, MaxLimit)
}

// key binds cursors to this process family; they guard against mistakes and probing, not against a holder of the database, so a fixed key is enough.
var key = []byte("maas.page.v1")

type cursor struct {
	Keys []string `json:"k"`
	Sum  []byte   `json:"s"`
}

func sum(filter string, keys []string) []byte {
	m := hmac.New(sha256.New, key)
	b, _ := json.Marshal(keys)
	m.Write([]byte(filter))
	m.Write([]byte{0})
	m.Write(b)
	return m.Sum(nil)[:12]
}

// Encode makes the cursor after a row with these sort values (the id last) in the list with this filter.
func Encode(filter string, keys ...string) string {
	b, _ := json.Marshal(cursor{keys, sum(filter, keys)})
	return base64.RawURLEncoding.EncodeToString(b)
}

// Decode returns the n sort values of a cursor, nil for the empty one; ErrBadCursor otherwise.
func Decode(filter, s string, n int) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(s)
	if len(s) > 2048 || err != nil || json.Unmarshal(b, &c) != nil || len(c.Keys) != n || !hmac.Equal(c.Sum, sum(filter, c.Keys)) {
		return nil, ErrBadCursor
	}
	return c.Keys, nil
}

// Of makes a List from up to limit+1 rows: the extra row tells that there is a next page; keys gives the sort values of a row.
func Of[T any](rows []T, limit int, filter string, keys func(T) []string) List[T] {
	l := List[T]{Items: rows}
	if l.Items == nil {
		l.Items = []T{}
	}
	if len(rows) > limit {
		l.Items = rows[:limit]
		next := Encode(filter, keys(rows[limit-1])...)
		l.Next = &next
	}
	return l
}
