// Package netguard is outbound HTTP that cannot be turned against the inside: addresses that users type are connected to only where the policy allows the IP address they resolve to, checked at the moment
// of the connection (so a name that changes its address gains nothing), on every redirect too.
package netguard

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"maas/internal/platform/fault"
)

// The refusals.
var (
	ErrURL      = fault.New(fault.Invalid, "netguard.bad_url", "this URL cannot be used")
	ErrAddress  = fault.New(fault.Forbidden, "netguard.address_blocked", "this address may not be connected to")
	ErrRedirect = fault.New(fault.Upstream, "netguard.redirect", "the server redirects to somewhere it may not")
)

// Policy says which addresses may be connected to. The zero value allows public ones only.
type Policy struct {
	AllowLoopback bool // this machine
	AllowPrivate  bool // RFC 1918, RFC 4193, carrier-grade NAT
}

var carrier = netip.MustParsePrefix("100.64.0.0/10")

// metadata are the addresses where clouds answer with credentials: never allowed, whatever the policy says.
var metadata = []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200")}

// Check returns nil if the policy allows the address, ErrAddress else.
func (p Policy) Check(a netip.Addr) error {
	a = a.Unmap()
	if slices.Contains(metadata, a) {
		return ErrAddress.With("%s is an address where clouds keep credentials", a)
	}
	switch {
	case a.IsLoopback():
		if p.AllowLoopback {
			return nil
		}
		return ErrAddress.With("%s is this machine", a).WithHint("An operator can allow it: inference.upstream.allow_loopback")
	case a.IsPrivate() || carrier.Contains(a):
		if p.AllowPrivate {
			return nil
		}
		return ErrAddress.With("%s is a private address", a).WithHint("An operator can allow it: inference.upstream.allow_private")
	case !a.IsGlobalUnicast() || embeds(a):
		return ErrAddress.With("%s is not an address of a server", a)
	}
	return nil
}

// embeds reports IPv6 forms that carry an IPv4 address, which a translator would turn into an inner one: NAT64 and 6to4.
func embeds(a netip.Addr) bool {
	return netip.MustParsePrefix("64:ff9b::/96").Contains(a) || netip.MustParsePrefix("2002::/16").Contains(a)
}

// ParseURL checks a base URL that a user typed: http or https, a host, no user info, query or fragment, and, where the host is an address, one the policy allows. The answer has no trailing slash.
func (p Policy) ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return nil, ErrURL.With("write it as https://host/path")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, ErrURL.With("it must begin with http:// or https://")
	case u.User != nil:
		return nil, ErrURL.With("a name or password in the URL is not accepted; use the key field")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, ErrURL.With("a base URL has no query and no fragment")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	if a, err := netip.ParseAddr(strings.Trim(u.Hostname(), "[]")); err == nil {
		if err := p.Check(a); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// control refuses the connection before the first packet goes out.
func (p Policy) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return ErrAddress.With("%s is not an address", address)
	}
	return p.Check(ap.Addr())
}

// Dialer returns a dialer that enforces the policy on every connection.
func (p Policy) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: p.control}
}

// Client returns an HTTP client under the policy: no proxy, time limits on every phase but the body (the caller's context bounds that), at most three redirects, each on the same host or without credentials.
func (p Policy) Client() *http.Client {
	d := p.Dialer()
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return d.DialContext(ctx, network, addr)
			},
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 2 * time.Minute, IdleConnTimeout: 30 * time.Second,
			MaxIdleConnsPerHost: 4, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: redirect,
	}
}

func redirect(r *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) > 3:
		return ErrRedirect.With("more than three redirects")
	case r.URL.Scheme != "https" && first.URL.Scheme == "https":
		return ErrRedirect.With("from https to %s", r.URL.Scheme)
	case r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return ErrRedirect.With("to %s", r.URL.Scheme)
	case first.Method != http.MethodGet:
		return ErrRedirect.With("a %s is not sent to another address", first.Method)
	case r.URL.Host != first.URL.Host:
		for name := range r.Header { // credentials have many names
			if name != "Accept" && name != "User-Agent" && name != "Range" {
				r.Header.Del(name)
			}
		}
	}
	return nil
}

// Refused finds a refusal of this package in an error of an HTTP client; nil if there is none.
func Refused(err error) error {
	var e *fault.Error
	if errors.As(err, &e) && strings.HasPrefix(e.Code, "netguard.") {
		return e
	}
	return nil
}
