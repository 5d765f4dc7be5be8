package web

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientBehindTrustedProxies(t *testing.T) {
	t.Parallel()
	c, bad := parseProxies([]string{"10.0.0.0/8", "::1", "nonsense"})
	require.Equal(t, []string{"nonsense"}, bad)
	for _, x := range []struct{ peer, forwarded, want string }{
		{"10.0.0.1:5000", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:5000", "1.1.1.1, 203.0.113.9, 10.2.2.2", "203.0.113.9"}, // the left one is the client's own invention
		{"10.0.0.1:5000", "203.0.113.9:4711", "203.0.113.9"},
		{"[::1]:5000", "2001:db8::7", "2001:db8::7"},
		{"[::ffff:10.0.0.1]:5000", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:5000", "", "10.0.0.1"},
		{"10.0.0.1:5000", "garbage", "10.0.0.1"},
		{"198.51.100.1:5000", "203.0.113.9", "198.51.100.1"}, // nobody we trust
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = x.peer
		if x.forwarded != "" {
			r.Header.Set("X-Forwarded-For", x.forwarded)
		}
		c.settle(r)
		require.Equal(t, x.want, ClientAddr(r).String(), x)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "@"
	require.False(t, ClientAddr(r).IsValid())
}
