// Package seal keeps secrets encrypted at rest.
package seal

import (
	"context"

	"maas/internal/platform/db"
)

// Config says where the master key is.
type Config struct {
	Keys string `yaml:"keys"` // file:PATH, made at first start with mode 0600
}

// Place is where a sealed value stands. It is bound to the value: one copied elsewhere does not open.
type Place struct{ Table, Column, Row, Tenant string }

// Ring seals and opens values under the keys of tenants.
type Ring struct{}

// Open reads or makes the master key and checks that it is the one this database was sealed with (ErrKeyMissing else).
func Open(ctx context.Context, c Config, d *db.DB) (*Ring, error) { panic("filled next") }

// Seal encrypts plain for its place: `s1.<version>.<base64url>`. The first use for a tenant makes its key.
func (r *Ring) Seal(ctx context.Context, at Place, plain []byte) (string, error) {
	panic("filled next")
}

// Open decrypts what Seal made for the same place. ErrBroken for altered or misplaced values.
func (r *Ring) Open(ctx context.Context, at Place, sealed string) ([]byte, error) {
	panic("filled next")
}

// Index is a keyed hash (hex of HMAC-SHA256) for looking a secret up without storing it. purpose separates uses: `user_key.secret`.
func (r *Ring) Index(purpose string, value []byte) string { panic("filled next") }

// Derive returns 32 bytes that are the same in every process of this installation: signing keys, the secret between processes.
func (r *Ring) Derive(purpose string) []byte { panic("filled next") }
