package user

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"maas/internal/platform/fault"
)

// The errors of passwords.
var (
	ErrWeakPassword = fault.New(fault.Invalid, "user.weak_password", "this password is not accepted")
	ErrBusy         = fault.New(fault.Limited, "user.busy", "too many sign-ins at this moment").After(2 * time.Second)
)

// argon2id parameters of OWASP's first choice: 19 MiB, two passes, one lane; about 26 ms of a core.
const (
	argonMemory  = 19 * 1024
	argonTime    = 2
	argonLanes   = 1
	argonKeyLen  = 32
	argonSaltLen = 16

	passwordMin   = 10
	passwordMax   = 256
	passwordQueue = 2 * time.Second
)

// hasher runs at most as many password hashes at once as there are cores: a flood of sign-ins costs waiting, not memory.
type hasher struct {
	slots chan struct{}
	dummy string // hash that unknown accounts are compared with, so that they cost the same time
}

func newHasher() *hasher {
	h := &hasher{slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	h.dummy = encodeHash("no such password", make([]byte, argonSaltLen))
	return h
}

// take waits for a slot, at most passwordQueue: ErrBusy then.
func (h *hasher) take(ctx context.Context) error {
	t := time.NewTimer(passwordQueue)
	defer t.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-t.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hash returns the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.take(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.slots }()
	salt := make([]byte, argonSaltLen)
	_, _ = rand.Read(salt)
	return encodeHash(password, salt), nil
}

// verify compares a password with a PHC string; an empty one stands for an unknown account and costs the same. stale says that the hash was made with other parameters.
func (h *hasher) verify(ctx context.Context, phc, password string) (ok, stale bool, err error) {
	if err := h.take(ctx); err != nil {
		return false, false, err
	}
	defer func() { <-h.slots }()
	known := phc != ""
	if !known {
		phc = h.dummy
	}
	m, t, p, salt, want, err := parseHash(phc)
	if err != nil {
		return false, false, err
	}
	got := argon2.IDKey([]byte(norm.NFKC.String(password)), salt, t, m, p, uint32(len(want))) //nolint:gosec // bounded by parseHash
	same := subtle.ConstantTimeCompare(got, want) == 1
	return same && known, m != argonMemory || t != argonTime || p != argonLanes, nil
}

func encodeHash(password string, salt []byte) string {
	key := argon2.IDKey([]byte(norm.NFKC.String(password)), salt, argonTime, argonMemory, argonLanes, argonKeyLen)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func parseHash(phc string) (m, t uint32, p uint8, salt, key []byte, err error) {
	parts := strings.Split(phc, "$")
	var version int
	if len(parts) != 6 || parts[1] != "argon2id" {
		return 0, 0, 0, nil, nil, fmt.Errorf("password hash of an unknown form")
	}
	if _, err = fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return 0, 0, 0, nil, nil, fmt.Errorf("password hash of an unknown version")
	}
	if _, err = fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &p); err != nil || m > 1<<20 || t > 64 || p == 0 || t == 0 {
		return 0, 0, 0, nil, nil, fmt.Errorf("password hash with bad parameters")
	}
	salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	if err == nil {
		key, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(key) < 16 || len(key) > 64 {
		return 0, 0, 0, nil, nil, fmt.Errorf("password hash with bad text")
	}
	return m, t, p, salt, key, nil
}

// checkPassword refuses passwords that are too short or long, that are the account's own words, or that lead every list of guesses. No rule of composition: length is what counts.
func checkPassword(password string, own ...string) error {
	field := func(code, message string, limit any) error {
		return ErrWeakPassword.With("%s", message).WithFields(fault.Field{Name: "body.password", Code: code, Message: message, Limit: limit})
	}
	normal := norm.NFKC.String(password)
	switch n := utf8.RuneCountInString(normal); {
	case !utf8.ValidString(password):
		return field("format", "must be text", nil)
	case n < passwordMin:
		return field("too_short", fmt.Sprintf("must have at least %d characters", passwordMin), passwordMin)
	case n > passwordMax:
		return field("too_long", fmt.Sprintf("must have at most %d characters", passwordMax), passwordMax)
	}
	lower := strings.ToLower(normal)
	for _, w := range own {
		if w = strings.ToLower(w); w != "" && lower == w {
			return field("pattern", "must not be your name, address or team", nil)
		}
	}
	if strings.Count(lower, lower[:1]) == len(lower) || strings.Contains(guessed, "\n"+lower+"\n") {
		return field("pattern", "is among the first that anybody would guess", nil)
	}
	return nil
}

// guessed holds what leads public lists of leaked passwords among those of ten and more characters.
const guessed = `
1234567890
0123456789
12345678910
123456789a
0987654321
9876543210
1q2w3e4r5t
1q2w3e4r5t6y
qwertyuiop
qwerty12345
qwerty123456
asdfghjkl1
zxcvbnm123
1qaz2wsx3edc
password12
password123
password1234
passw0rd123
p@ssw0rd123
iloveyou12
iloveyou123
letmein123
welcome123
welcome1234
admin12345
admin123456
administrator
changeme123
football123
baseball123
basketball
abcdefghij
abcd123456
abc1234567
aa12345678
a123456789
q1w2e3r4t5
1111111111
1122334455
1212121212
1234554321
1234512345
123123123123
147258369a
5201314520
woaini1314
woaini5201314
zaq12wsxcde3
superman123
princess123
liverpool1
manchester
chocolate1
unbelievable
michelle123
monkey12345
dragon12345
master12345
secret12345
trustno1234
starwars123
internet123
computer123
samsung123
google12345
`
