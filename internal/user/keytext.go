package user

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"
)

// Form of a key: prefix, 43 base62 characters of 256 random bits, 6 base62 characters of CRC-32C over all before. The checksum tells a mistyped or made-up key without a look-up and lets scanners
// recognise leaks.
const (
	keyPrefix  = "sk-maas-"
	keyRandom  = 43
	keySum     = 6
	keyLen     = len(keyPrefix) + keyRandom + keySum
	keyShown   = 12 // characters kept for display at the front
	keyLast    = 4  // and at the end
	base62     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	base62Size = 62
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newKeyText makes a key. It is the only moment at which its text exists.
func newKeyText() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	n := new(big.Int).SetBytes(b[:])
	var text [keyRandom]byte
	radix, digit := big.NewInt(base62Size), new(big.Int)
	for i := keyRandom - 1; i >= 0; i-- {
		n.DivMod(n, radix, digit)
		text[i] = base62[digit.Int64()]
	}
	s := keyPrefix + string(text[:])
	return s + checksum(s)
}

func checksum(s string) string {
	n := crc32.Checksum([]byte(s), castagnoli)
	var out [keySum]byte
	for i := keySum - 1; i >= 0; i-- {
		out[i] = base62[n%base62Size]
		n /= base62Size
	}
	return string(out[:])
}

// LooksLikeKey reports whether a credential claims to be an API key (and not an access token).
func LooksLikeKey(s string) bool { return strings.HasPrefix(s, keyPrefix) }

// wellFormed reports whether s has length, alphabet and checksum of a key. No allocation: it runs on every request.
func wellFormed(s string) bool {
	if len(s) != keyLen || s[:len(keyPrefix)] != keyPrefix {
		return false
	}
	for i := len(keyPrefix); i < keyLen; i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	n := ^uint32(0) // crc32.Checksum by hand: its argument would go to the heap
	for i := range keyLen - keySum {
		n = castagnoli[byte(n)^s[i]] ^ n>>8
	}
	n = ^n
	for i := keyLen - 1; i >= keyLen-keySum; i-- {
		if s[i] != base62[n%base62Size] {
			return false
		}
		n /= base62Size
	}
	return true
}

// hashText is how keys, refresh tokens, tickets and access tokens are looked up: they are random, so a plain hash is enough.
func hashText(s string) [32]byte {
	if len(s) <= 128 { // keeps the copy of the common case on the stack
		var b [128]byte
		return sha256.Sum256(b[:copy(b[:], s)])
	}
	return sha256.Sum256([]byte(s))
}
