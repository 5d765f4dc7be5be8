package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clients tells who sent a request that came through proxies of ours. Zero value: nobody is trusted, the peer is the client.
type clients struct{ trusted []netip.Prefix }

// parseProxies reads addresses and CIDR blocks; what cannot be read is returned in bad.
func parseProxies(list []string) (c clients, bad []string) {
	for _, text := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			a, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil {
				bad = append(bad, text)
				continue
			}
			p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		c.trusted = append(c.trusted, p.Masked())
	}
	return c, bad
}

// CheckProxies returns the entries of Options.TrustedProxies that cannot be read.
func CheckProxies(list []string) []string {
	_, bad := parseProxies(list)
	return bad
}

func (c clients) trusts(a netip.Addr) bool {
	for _, p := range c.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// settle puts the client's own address into r.RemoteAddr when the peer is a trusted proxy: the rightmost address of X-Forwarded-For that is no trusted proxy. Entries further left were written by the client
// itself, so anything may stand there.
func (c clients) settle(r *http.Request) {
	peer, ok := addrOf(r.RemoteAddr)
	if !ok || !c.trusts(peer) {
		return
	}
	var hops []string
	for _, h := range r.Header.Values("X-Forwarded-For") {
		hops = append(hops, strings.Split(h, ",")...)
	}
	for _, hop := range slices.Backward(hops) {
		a, ok := addrOf(strings.TrimSpace(hop))
		if !ok {
			return // written by nobody we trust: what is known stays
		}
		r.RemoteAddr = net.JoinHostPort(a.String(), "0")
		if !c.trusts(a) {
			return
		}
	}
}

// addrOf reads an address with or without a port.
func addrOf(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), true
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap(), err == nil
}

// ClientAddr is the address of the client of a request: the peer, or who stands behind trusted proxies. Invalid for peers without one (unix sockets).
func ClientAddr(r *http.Request) netip.Addr {
	a, _ := addrOf(r.RemoteAddr)
	return a
}
