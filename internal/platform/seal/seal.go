// Package seal keeps secrets encrypted at rest.
//
// Master keys live outside the database (a file of mode 0600); each tenant has a random key, wrapped by a master, in seal_key; each sealed value has a key of its own, derived from the tenant's with a random
// salt. A value is bound to table, column, row and tenant: copied elsewhere it does not open. The installation's own key is that of the tenant "": it serves Index and Derive.
//
// Form of a sealed value: `s1.<version of the tenant key>.<base64url(salt 16 | nonce 12 | ciphertext | tag 16)>`, AES-256-GCM under HKDF-SHA256(tenant key, salt, "record").
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

// Migrations are the tables of this package, service name "seal".
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Errors of this package.
var (
	ErrKeyMissing = fault.New(fault.Internal, "seal.key_missing", "the master key that this database was sealed with is not there")
	ErrKeyFile    = fault.New(fault.Internal, "seal.key_file", "the master key file cannot be used")
	ErrBroken     = fault.New(fault.Internal, "seal.broken", "a sealed value was altered, or stands in the wrong place")
	ErrDestroyed  = fault.New(fault.Internal, "seal.destroyed", "the key of this value was destroyed")
	ErrBadURL     = fault.New(fault.Invalid, "seal.bad_url", "this place of master keys cannot be used")
)

// Config says where the master key is.
type Config struct {
	Keys string `yaml:"keys"` // file:PATH, made at first start with mode 0600; keep a copy elsewhere: without it sealed values are lost
}

// Place is where a sealed value stands. Row is the id of the row; Tenant "" is the installation.
type Place struct{ Table, Column, Row, Tenant string }

// bytes is the associated data: the parts with their lengths, so that no two places are alike.
func (p Place) bytes() []byte { return join(p.Table, p.Column, p.Row, p.Tenant) }

func join(parts ...string) (b []byte) {
	for _, s := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s))) //nolint:gosec // names and ids
		b = append(b, s...)
	}
	return b
}

// Ring seals and opens values under the keys of tenants. Safe for concurrent use.
type Ring struct {
	d       *db.DB
	masters []master
	root    []byte // the installation's key

	mu     sync.RWMutex // guards keys
	keys   map[keyName][]byte
	newest map[string]int64
}

type keyName struct {
	tenant  string
	version int64
}

// Open reads the master key, or makes it when neither file nor sealed values exist, and checks that it opens the keys in the database. ErrKeyMissing if it is another one, ErrKeyFile if it cannot be read.
func Open(ctx context.Context, c Config, d *db.DB) (*Ring, error) {
	path, ok := strings.CutPrefix(c.Keys, "file:")
	if !ok || path == "" {
		return nil, ErrBadURL.With("master keys are at file:PATH, not %q", c.Keys)
	}
	r := &Ring{d: d.System(), keys: map[keyName][]byte{}, newest: map[string]int64{}}
	var used []string
	err := r.d.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		used, err = db.List(ctx, q, db.Scalar[string], `SELECT DISTINCT master_id FROM seal_key WHERE state <> 'destroyed' ORDER BY master_id`)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.masters, err = readMasters(path)
	if errors.Is(err, fs.ErrNotExist) && len(used) == 0 {
		if err := makeMaster(path); err != nil {
			return nil, fmt.Errorf("make the master key: %w", err)
		}
		r.masters, err = readMasters(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrKeyMissing.With("the database is sealed with master key %s, and there is no key file", strings.Join(used, ", ")).WithHint("Put the saved file back at %s", path)
	}
	if err != nil {
		return nil, err
	}
	for _, id := range used {
		if _, ok := r.master(id); !ok {
			return nil, ErrKeyMissing.With("the database is sealed with master key %s; the key file has %s", id, r.describe()).WithHint("Put the saved file back at %s", path)
		}
	}
	if r.root, err = r.load(ctx, "", 0); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Ring) master(id string) (master, bool) {
	for _, m := range r.masters {
		if m.id == id {
			return m, true
		}
	}
	return master{}, false
}

func (r *Ring) describe() string {
	var list []string
	for _, m := range r.masters {
		list = append(list, m.id+" (fingerprint "+m.fingerprint()+")")
	}
	return strings.Join(list, ", ")
}

// Seal encrypts plain for its place. The first use for a tenant makes its key, inside the transaction of ctx if there is one.
func (r *Ring) Seal(ctx context.Context, at Place, plain []byte) (string, error) {
	r.mu.RLock()
	version := r.newest[at.Tenant]
	key := r.keys[keyName{at.Tenant, version}]
	r.mu.RUnlock()
	if key == nil {
		var err error
		if version, key, err = r.active(ctx, at.Tenant); err != nil {
			return "", err
		}
	}
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	box, err := gcm(key, salt[:], "record")
	if err != nil {
		return "", err
	}
	nonce := make([]byte, box.NonceSize())
	_, _ = rand.Read(nonce)
	out := box.Seal(append(salt[:], nonce...), nonce, plain, at.bytes())
	return "s1." + strconv.FormatInt(version, 10) + "." + base64.RawURLEncoding.EncodeToString(out), nil
}

// Open decrypts what Seal made for the same place. ErrBroken for values that were altered or moved, ErrDestroyed when the tenant's key is gone.
func (r *Ring) Open(ctx context.Context, at Place, sealed string) ([]byte, error) {
	parts := strings.Split(sealed, ".")
	if len(parts) != 3 || parts[0] != "s1" {
		return nil, ErrBroken
	}
	version, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || version < 1 || parts[1] != strconv.FormatInt(version, 10) {
		return nil, ErrBroken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(raw) < 16+12+16 {
		return nil, ErrBroken
	}
	key, err := r.load(ctx, at.Tenant, version)
	if errors.Is(err, db.ErrNoRow) {
		return nil, ErrBroken
	}
	if err != nil {
		return nil, err
	}
	box, err := gcm(key, raw[:16], "record")
	if err != nil {
		return nil, err
	}
	plain, err := box.Open(nil, raw[16:28], raw[28:], at.bytes())
	if err != nil {
		return nil, ErrBroken.With("the sealed %s.%s of %s does not open", at.Table, at.Column, at.Row)
	}
	return plain, nil
}

// Index is a keyed hash (64 hex digits, HMAC-SHA256) for looking a secret up without storing it. purpose separates uses: `user_key.secret`.
func (r *Ring) Index(purpose string, value []byte) string {
	m := hmac.New(sha256.New, r.Derive("index"))
	m.Write(join(purpose))
	m.Write(value)
	return hex.EncodeToString(m.Sum(nil))
}

// Derive returns 32 bytes that are the same in every process of this installation and differ by purpose: signing keys, the secret between processes.
func (r *Ring) Derive(purpose string) []byte {
	k, err := hkdf.Key(sha256.New, r.root, nil, "derive "+purpose, 32)
	if err != nil {
		panic(err) // only lengths can be wrong, and they are constants
	}
	return k
}

func gcm(key, salt []byte, info string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key, salt, info, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// active returns the newest key of a tenant, making the first.
func (r *Ring) active(ctx context.Context, tenant string) (version int64, key []byte, err error) {
	err = r.d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		const newest = `SELECT version FROM seal_key WHERE tenant_id = $1 AND state = 'active' ORDER BY version DESC LIMIT 1`
		version, err = db.One(ctx, tx, db.Scalar[int64], newest, tenant)
		if errors.Is(err, db.ErrNoRow) {
			if err := r.create(ctx, tx, tenant); err != nil {
				return err
			}
			version, err = db.One(ctx, tx, db.Scalar[int64], newest, tenant)
		}
		if errors.Is(err, db.ErrNoRow) {
			return ErrDestroyed
		}
		if err != nil {
			return err
		}
		if key, err = r.unwrap(ctx, tx, tenant, version); err != nil {
			return err
		}
		tx.After(func() { // not before: a key whose row was rolled back must not seal anything
			r.mu.Lock()
			defer r.mu.Unlock()
			r.keys[keyName{tenant, version}] = key
			r.newest[tenant] = max(r.newest[tenant], version)
		})
		return nil
	})
	return version, key, err
}

// create writes the first key of a tenant; one that another process wrote meanwhile, or a destroyed one, stays.
func (r *Ring) create(ctx context.Context, tx *db.Tx, tenant string) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	m := r.masters[len(r.masters)-1]
	box, err := gcm(m.key, nil, "wrap")
	if err != nil {
		return err
	}
	nonce := make([]byte, box.NonceSize())
	_, _ = rand.Read(nonce)
	wrapped := base64.RawURLEncoding.EncodeToString(box.Seal(nonce, nonce, key, join(tenant, "1", m.id)))
	_, err = tx.Exec(ctx, `INSERT INTO seal_key (tenant_id, version, master_id, wrapped, state, at) VALUES ($1, 1, $2, $3, 'active', $4) ON CONFLICT (tenant_id, version) DO NOTHING`, tenant, m.id, wrapped, db.Micro(clock.Now()))
	return err
}

func (r *Ring) unwrap(ctx context.Context, q db.Querier, tenant string, version int64) ([]byte, error) {
	type row struct{ master, wrapped, state string }
	x, err := db.One(ctx, q, func(s db.Row) (x row, err error) { return x, s.Scan(&x.master, &x.wrapped, &x.state) }, `SELECT master_id, wrapped, state FROM seal_key WHERE tenant_id = $1 AND version = $2`, tenant, version)
	if err != nil {
		return nil, err
	}
	if x.state == "destroyed" {
		return nil, ErrDestroyed
	}
	m, ok := r.master(x.master)
	if !ok {
		return nil, ErrKeyMissing.With("a key is wrapped by master key %s; the key file has %s", x.master, r.describe())
	}
	box, err := gcm(m.key, nil, "wrap")
	if err != nil {
		return nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(x.wrapped)
	if err != nil || len(raw) < box.NonceSize() {
		return nil, ErrBroken.With("the wrapped key of a tenant is not readable")
	}
	key, err := box.Open(nil, raw[:box.NonceSize()], raw[box.NonceSize():], join(tenant, strconv.FormatInt(version, 10), m.id))
	if err != nil {
		return nil, ErrKeyMissing.With("master key %s in the key file (fingerprint %s) is not the one the database was sealed with", m.id, m.fingerprint())
	}
	return key, nil
}

// load returns a key of a tenant; version 0 = the newest, made if there is none.
func (r *Ring) load(ctx context.Context, tenant string, version int64) ([]byte, error) {
	if version == 0 {
		_, key, err := r.active(ctx, tenant)
		return key, err
	}
	r.mu.RLock()
	key := r.keys[keyName{tenant, version}]
	r.mu.RUnlock()
	if key != nil {
		return key, nil
	}
	err := r.d.Tx(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if key, err = r.unwrap(ctx, tx, tenant, version); err != nil {
			return err
		}
		tx.After(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.keys[keyName{tenant, version}] = key
		})
		return nil
	})
	return key, err
}
