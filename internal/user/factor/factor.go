// Package factor checks second factors: codes of authenticator apps (RFC 6238), recovery codes, passkeys (WebAuthn). It stores nothing and knows no accounts.
package factor

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

// Parameters that every authenticator app understands: SHA-1, six digits, 30 seconds. One step of clock difference is allowed each way.
const (
	period = 30
	digits = 6
	skew   = 1
)

// TOTP is a new secret for an authenticator app.
type TOTP struct {
	Secret string // base32
	URL    string // otpauth://, what the picture holds
	QR     string // the picture, SVG
}

// NewTOTP makes a secret of 160 bits.
func NewTOTP(site, account string) (TOTP, error) {
	k, err := totp.Generate(totp.GenerateOpts{Issuer: strings.ReplaceAll(site, ":", " "), AccountName: account, Period: period, SecretSize: 20, Digits: digits, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return TOTP{}, err
	}
	picture, err := svg(k.URL())
	return TOTP{Secret: k.Secret(), URL: k.URL(), QR: picture}, err
}

// Check compares a code with those of the time steps around now that come after last, the step whose code was used before: a code that was seen once, or an older one, does not work again. It returns the step
// to remember.
func Check(secret, code string, now time.Time, last int64) (step int64, ok bool) {
	code = strings.ReplaceAll(strings.TrimSpace(code), " ", "")
	if len(code) != digits {
		return 0, false
	}
	at := now.Unix() / period
	for s := at - skew; s <= at+skew; s++ {
		if s <= last || s < 0 {
			continue
		}
		if good, err := hotp.ValidateCustom(code, uint64(s), secret, hotp.ValidateOpts{Digits: digits, Algorithm: otp.AlgorithmSHA1}); err == nil && good {
			return s, true
		}
	}
	return 0, false
}

// recoveryCodes is how many are given out at a time; each has 80 bits.
const recoveryCodes = 10

var letters = base32.NewEncoding("abcdefghjkmnpqrstuvwxyz023456789").WithPadding(base32.NoPadding) // no i, l, o, 1: they are read for each other

// RecoveryCodes makes the codes that replace a lost factor, each once.
func RecoveryCodes() []string {
	list := make([]string, recoveryCodes)
	for i := range list {
		var b [10]byte
		_, _ = rand.Read(b[:])
		s := letters.EncodeToString(b[:])
		list[i] = s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
	}
	return list
}

// Normal is the form of a recovery code that is hashed: however people typed it.
func Normal(code string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(strings.TrimSpace(code)))
}

// svg draws a QR code: one path, with the quiet zone that readers want.
func svg(text string) (string, error) {
	c, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", err
	}
	const quiet = 4
	n := c.Bounds().Dx()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><rect width="100%%" height="100%%" fill="#fff"/><path fill="#000" d="`, n+2*quiet, n+2*quiet)
	for y := range n {
		for x := 0; x < n; x++ {
			from := x
			for x < n {
				if r, _, _, _ := c.At(x, y).RGBA(); r != 0 {
					break
				}
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.String(), nil
}
