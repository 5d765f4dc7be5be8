package netguard_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/netguard"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	open := netguard.Policy{AllowLoopback: true, AllowPrivate: true}
	for addr, want := range map[string][2]bool{ // allowed by the zero policy, by the open one
		"8.8.8.8":                {true, true},
		"2001:4860:4860::8888":   {true, true},
		"127.0.0.1":              {false, true},
		"127.8.8.8":              {false, true},
		"::1":                    {false, true},
		"::ffff:127.0.0.1":       {false, true},
		"10.1.2.3":               {false, true},
		"172.16.0.1":             {false, true},
		"192.168.1.1":            {false, true},
		"100.64.0.1":             {false, true},
		"fd12::1":                {false, true},
		"169.254.169.254":        {false, false},
		"::ffff:169.254.169.254": {false, false},
		"fd00:ec2::254":          {false, false},
		"100.100.100.200":        {false, false},
		"169.254.1.1":            {false, false},
		"fe80::1":                {false, false},
		"0.0.0.0":                {false, false},
		"::":                     {false, false},
		"224.0.0.1":              {false, false},
		"255.255.255.255":        {false, false},
		"64:ff9b::7f00:1":        {false, false},
		"2002:7f00:1::":          {false, false},
	} {
		a := netip.MustParseAddr(addr)
		require.Equal(t, want[0], netguard.Policy{}.Check(a) == nil, addr)
		require.Equal(t, want[1], open.Check(a) == nil, addr)
	}
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	u, err := netguard.Policy{}.ParseURL(" https://api.example.com/v1/ ")
	require.NoError(t, err)
	require.Equal(t, "https://api.example.com/v1", u.String())
	for _, bad := range []string{"", "api.example.com/v1", "ftp://x/", "file:///etc/passwd", "https://user:pw@x/", "https://x/?a=b", "https://x/#f", "http://:80/", "http://127.0.0.1/v1", "http://[::1]:8080/v1", "http://10.0.0.1"} {
		_, err := netguard.Policy{}.ParseURL(bad)
		require.Error(t, err, bad)
	}
}

func get(t *testing.T, c *http.Client, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer secret")
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// A name is judged by the address it has at the moment of the connection.
func TestConnectionsAreChecked(t *testing.T) {
	t.Parallel()
	h := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(h.Close)
	port := h.URL[len("http://127.0.0.1:"):]
	for _, host := range []string{"127.0.0.1", "localhost"} {
		err := get(t, netguard.Policy{}.Client(), "http://"+host+":"+port)
		require.ErrorIs(t, netguard.Refused(err), netguard.ErrAddress, host)
		require.NoError(t, get(t, netguard.Policy{AllowLoopback: true}.Client(), "http://"+host+":"+port), host)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var seen string
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Get("Authorization") }))
	t.Cleanup(target.Close)
	to := ""
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }))
	t.Cleanup(h.Close)
	c := netguard.Policy{AllowLoopback: true}.Client()
	to = target.URL
	require.NoError(t, get(t, c, h.URL))
	require.Empty(t, seen, "the key does not follow to another address")
	to = "http://169.254.169.254/latest/meta-data"
	require.ErrorIs(t, netguard.Refused(get(t, c, h.URL)), netguard.ErrAddress)
	to = h.URL
	require.ErrorIs(t, netguard.Refused(get(t, c, h.URL)), netguard.ErrRedirect, "for ever")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL, nil)
	require.NoError(t, err)
	_, err = c.Do(req)
	require.ErrorIs(t, netguard.Refused(err), netguard.ErrRedirect, "a POST stays where it was sent")
}
