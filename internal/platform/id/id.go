// Package id makes identifiers: a type prefix, an underscore (or the dash that OpenAI's objects have) and a UUIDv7 in 32 hex digits.
// They sort by time of making, so lists page by key and the day of a usage row follows from its id.
package id

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"
)

var (
	mu   sync.Mutex
	last uint64 // milliseconds<<12 | counter of the newest id: ids of one process never go back, whatever the clock does
)

// New returns prefix + "_" + UUIDv7 (RFC 9562): 48 bits of milliseconds, a 12 bit counter inside the millisecond, 62 random bits.
func New(prefix string) string { return NewWith(prefix + "_") }

// NewWith is New for prefixes that bring their own separator ("chatcmpl-").
func NewWith(prefix string) string {
	u := UUID()
	var b [32]byte
	hex.Encode(b[:], u[:])
	return prefix + string(b[:])
}

// UUID returns a UUIDv7 that is larger than every earlier one of this process.
func UUID() [16]byte {
	now := uint64(time.Now().UnixMilli()) << 12 //nolint:gosec // after 1970
	mu.Lock()
	if now <= last {
		now = last + 1
	}
	last = now
	mu.Unlock()
	var u [16]byte
	_, _ = rand.Read(u[8:]) // crypto/rand.Read never fails since Go 1.24
	ms, seq := now>>12, now&0xfff
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	u[6] = 0x70 | byte(seq>>8)
	u[7] = byte(seq)
	u[8] = 0x80 | u[8]&0x3f
	return u
}

// formed reports whether s is a prefix of 2 to 12 small letters, a separator and 32 hex digits.
func formed(s string) bool {
	n := len(s) - 33 // of the prefix
	if n < 2 || n > 12 || s[n] != '_' && s[n] != '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i < n && (c < 'a' || c > 'z'), i > n && (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// Valid reports whether s has the form of an identifier with this prefix (without separator).
func Valid(prefix, s string) bool {
	return formed(s) && len(s) == len(prefix)+33 && s[:len(prefix)] == prefix
}

// Time returns the time inside an identifier, zero if s is none.
func Time(s string) time.Time {
	if !formed(s) {
		return time.Time{}
	}
	b, err := hex.DecodeString(s[len(s)-32 : len(s)-20])
	if err != nil {
		return time.Time{}
	}
	var ms int64
	for _, x := range b {
		ms = ms<<8 | int64(x)
	}
	return time.UnixMilli(ms).UTC()
}
