package user

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPasskeysWantAName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		public, bar string
		err         error
		offered     bool
	}{
		{"https://maas.example.com", "maas.example.com", nil, true},
		{"https://maas.example.com", "10.0.0.7:8080", nil, true}, // a proxy in between
		{"http://127.0.0.1:8080", "localhost:8080", nil, true},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", nil, false},
		{"http://[::1]:8080", "[::1]:8080", nil, false},
		{"http://10.0.0.7:8080", "10.0.0.7:8080", ErrPasskeyAddress, false},
		{"http://10.0.0.7", "maas.intern", ErrPasskeyAddress, false},
	} {
		s := &Service{}
		s.PublicURL = func() string { return c.public }
		_, err := s.relyingParty()
		require.ErrorIs(t, err, c.err, c.public)
		require.Equal(t, c.offered, s.passkeysAt(c.bar), "%s at %s", c.public, c.bar)
	}
}
