// Package rpc calls another service by its Go interface over HTTP: one JSON POST per call, the same faults on both sides, the caller's principal signed with the installation's secret.
//
// Wire form: POST /rpc/<service>.<Method>, body = JSON of the input, headers Maas-Call (claims and their HMAC) and Maas-Timeout (milliseconds left). 200 = JSON of the output; 500 = a fault as fault.Encode
// writes it. The claims hold principal, audience, method, hash of the body and an end of life of 60 seconds, so a call that was overheard can be repeated only as it was, against the same set, for a minute.
// Contract between releases: fields are only ever added.
package rpc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/fault"
)

// Errors of this package.
var (
	ErrUnavailable = fault.New(fault.Unavailable, "rpc.unavailable", "another part of the system does not answer")
	ErrTimeout     = fault.New(fault.Unavailable, "rpc.timeout", "another part of the system took too long")
	ErrNoMethod    = fault.New(fault.Unavailable, "rpc.no_method", "the other process does not know this call; is it of another version?")
	ErrBadCall     = fault.New(fault.Unauthenticated, "rpc.bad_call", "the call is not signed by this installation, or too old")
	ErrBadInput    = fault.New(fault.Invalid, "rpc.bad_input", "the input of the call cannot be read")
	ErrBadAnswer   = fault.New(fault.Upstream, "rpc.bad_answer", "the other process gave an answer that cannot be read")
	ErrTooLarge    = fault.New(fault.TooLarge, "rpc.too_large", "the call or its answer is too large")
	ErrBadURL      = fault.New(fault.Invalid, "rpc.bad_url", "this address of another process cannot be used")
	ErrBadSecret   = fault.New(fault.Internal, "rpc.bad_secret", "calls between processes need a shared secret of 32 bytes and a name of the called set")
	ErrPanic       = fault.New(fault.Internal, "rpc.panic", "the call broke down by a mistake in the program")
)

const (
	prefix        = "/rpc/"
	headerCall    = "Maas-Call"
	headerTimeout = "Maas-Timeout"
	life          = 60 * time.Second
	skew          = 30 * time.Second // how far the clocks of two machines may be apart
)

// Options of both sides.
type Options struct {
	Secret   []byte        // 32 bytes shared by all processes (seal.Ring.Derive("rpc"))
	Audience string        // name of the called set: "inference"; a call for one is refused by others
	URL      string        // client: unix:PATH, http://127.0.0.1:PORT or https://...; plain HTTP only to this machine
	Timeout  time.Duration // client, per call; 0 = 30 s
	MaxBody  int64         // request and answer; 0 = 8 MiB
	Log      *slog.Logger  // server: internal errors with their causes; nil = none
	Now      clock.Clock   // nil = clock.Now
}

func (o *Options) check() error {
	if len(o.Secret) < 32 || o.Audience == "" {
		return ErrBadSecret
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 8 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = clock.Now
	}
	return nil
}

// claims are what a call's header says and its HMAC proves.
type claims struct {
	Principal *auth.Principal `json:"principal,omitempty"`
	Audience  string          `json:"aud"`
	Method    string          `json:"method"`
	Body      string          `json:"body"` // SHA-256, hex
	Until     int64           `json:"until"`
}

func (o *Options) mac(text string) []byte {
	m := hmac.New(sha256.New, o.Secret)
	m.Write([]byte("maas.rpc.v1\x00" + text))
	return m.Sum(nil)
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// sign makes the call header.
func (o *Options) sign(p *auth.Principal, method string, body []byte) (string, error) {
	b, err := json.Marshal(claims{p, o.Audience, method, digest(body), o.Now().Add(life).UnixMilli()})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(b)
	return text + "." + base64.RawURLEncoding.EncodeToString(o.mac(text)), nil
}
