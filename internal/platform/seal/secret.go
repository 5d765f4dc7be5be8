package seal

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Secret is a text that does not print: JSON, logs and every fmt verb show ***. It reads from JSON, YAML and text as it is. The zero value is the empty secret and prints as nothing.
type Secret struct{ v string }

// NewSecret wraps a text.
func NewSecret(v string) Secret { return Secret{v} }

// Reveal returns the text. Each call is a place to look at in a review.
func (s Secret) Reveal() string { return s.v }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.v == "" }

// String returns *** or nothing.
func (s Secret) String() string {
	if s.v == "" {
		return ""
	}
	return "***"
}

// Format implements fmt.Formatter, so that %#v, %x and %q show no more than %v.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON writes the redacted form.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText writes the redacted form.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the plain form.
func (s *Secret) UnmarshalText(b []byte) error { s.v = string(b); return nil }

// UnmarshalJSON reads the plain form.
func (s *Secret) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.v) }
