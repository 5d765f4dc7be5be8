// Package fault holds the one error type that leaves a package of this program.
//
// An error that a caller can act on is a package variable made by [New]: it has a kind (which decides the status code on every wire), a stable code `<package>.<reason>` and plain words.
// [Error.With] adds the words of the case at hand, [Error.WithFields] the inputs that were wrong, [Error.WithHint] the next step, [Error.Wrap] the cause, which is for the log and never leaves the process.
// Two errors are equal for [errors.Is] when their codes are: so a comparison holds on both sides of a wire.
//
// The kinds are mapped to HTTP once, in platform/web, and to the OpenAI error form once, in gateway.
package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind says what went wrong in the terms of every wire. The zero value is Internal, so a forgotten kind never blames the caller.
type Kind uint8

// The ten kinds. Text forms are the lower-snake names used in JSON.
const (
	Internal        Kind = iota // a bug or a broken invariant of ours; the words never leave the process
	Invalid                     // the request itself is wrong; repeating it cannot help
	Unauthenticated             // no credential, or one that does not hold
	Forbidden                   // known caller without the right
	NotFound                    // missing, or not the caller's to know of
	Conflict                    // the state of the object does not allow it now
	TooLarge                    // over a limit of size
	Limited                     // over a limit of rate, quota or budget
	Upstream                    // a system that we call answered wrongly or not in time
	Unavailable                 // a part of ours is away, starting or full; repeating later helps
)

var kindNames = [...]string{"internal", "invalid", "unauthenticated", "forbidden", "not_found", "conflict", "too_large", "limited", "upstream", "unavailable"}

// String returns the lower-snake name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText accepts the lower-snake names; an unknown one reads as Internal.
func (k *Kind) UnmarshalText(b []byte) error {
	if i := slices.Index(kindNames[:], string(b)); i >= 0 {
		*k = Kind(i)
	} else {
		*k = Internal
	}
	return nil
}

// Field is one input that was wrong. Name is a path in the request (`body.hyper.lr`, `query.limit`, `tensors[3]`); Code is one of required, unknown, type, format, too_short,
// too_long, out_of_range, not_in_list, pattern, duplicate, not_found, conflict, immutable. Limit names the bound where there is one. The offending value is never held: it may be a secret.
type Field struct {
	Name    string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Limit   any    `json:"limit,omitempty"`
}

// Error is a failure that a caller can act on. Errors are values: the methods return changed copies.
type Error struct {
	Kind       Kind          `json:"kind"`
	Code       string        `json:"code"`
	Message    string        `json:"message"`               // what the code means, the same words each time
	Detail     string        `json:"detail,omitempty"`      // the case at hand
	Hint       string        `json:"hint,omitempty"`        // the next step
	Fields     []Field       `json:"fields,omitempty"`      // every wrong input, not the first
	RetryAfter time.Duration `json:"retry_after,omitempty"` // when a repeat may succeed; 0 = unknown
	cause      error
}

// registry lists every error made by New, for the generated reference and the test that codes are unique.
var registry []*Error

// New makes an error value. Call it only for package variables: the list of all of them is the error reference.
// It panics on a code that is not `<package>.<reason>` or was taken, which a test run shows at once.
func New(kind Kind, code, message string) *Error {
	if pkg, reason, ok := strings.Cut(code, "."); !ok || pkg == "" || reason == "" || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz0123456789_.") != "" {
		panic("fault: code must be <package>.<reason>: " + code)
	}
	if slices.ContainsFunc(registry, func(e *Error) bool { return e.Code == code }) {
		panic("fault: code declared twice: " + code)
	}
	e := &Error{Kind: kind, Code: code, Message: message}
	registry = append(registry, e)
	return e
}

// All returns every declared error, sorted by code.
func All() []*Error {
	all := slices.Clone(registry)
	slices.SortFunc(all, func(a, b *Error) int { return strings.Compare(a.Code, b.Code) })
	return all
}

// Error returns code, words, detail and the chain of causes: the form for logs.
func (e *Error) Error() string {
	var s strings.Builder
	s.WriteString(e.Code + ": " + e.Text())
	for _, f := range e.Fields {
		s.WriteString("; " + f.Name + ": " + f.Message)
	}
	if e.cause != nil {
		s.WriteString(": " + e.cause.Error())
	}
	return s.String()
}

// Text returns the detail, or the message where there is none: the form for people.
func (e *Error) Text() string {
	if e.Detail != "" {
		return e.Detail
	}
	return e.Message
}

// Is reports equality by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) copy() *Error { c := *e; return &c }

// With returns a copy that says what happened in this case.
func (e *Error) With(format string, args ...any) *Error {
	c := e.copy()
	c.Detail = fmt.Sprintf(format, args...)
	return c
}

// WithHint returns a copy that names the next step.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := e.copy()
	c.Hint = fmt.Sprintf(format, args...)
	return c
}

// WithFields returns a copy with these wrong inputs added.
func (e *Error) WithFields(f ...Field) *Error {
	c := e.copy()
	c.Fields = append(slices.Clone(e.Fields), f...)
	return c
}

// After returns a copy that says when a repeat may succeed.
func (e *Error) After(d time.Duration) *Error {
	c := e.copy()
	c.RetryAfter = d
	return c
}

// Wrap returns a copy with a cause. The cause is for the log of this process and does not cross a wire.
func (e *Error) Wrap(cause error) *Error {
	c := e.copy()
	c.cause = cause
	return c
}

// ErrInternal stands in for every error that is not an *Error.
var ErrInternal = New(Internal, "platform.internal", "something went wrong on our side")

// From finds the *Error in the chain of err; anything else becomes ErrInternal with err as cause. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return ErrInternal.Wrap(err)
}

// KindOf returns the kind of err: Internal for errors without one.
func KindOf(err error) Kind { return From(err).Kind }

// Encode returns the wire form between our own processes; the cause stays behind.
func Encode(err error) []byte {
	b, _ := json.Marshal(From(err)) // plain struct of strings: cannot fail
	return b
}

// Decode reads what Encode wrote. Bytes that are no such thing give ErrInternal, never nil.
func Decode(b []byte) *Error {
	var e Error
	if err := json.Unmarshal(b, &e); err != nil || e.Code == "" {
		return ErrInternal.With("the other process answered with an unreadable error")
	}
	return &e
}
