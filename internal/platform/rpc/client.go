package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
)

// Client calls one process (or a balancer before several). Safe for concurrent use.
type Client struct {
	o    Options
	base string
	http *http.Client
}

// NewClient makes a Client. It does not connect yet. ErrBadURL for plain HTTP to another machine.
func NewClient(o Options) (*Client, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	t := &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true}
	dial := &net.Dialer{Timeout: 2 * time.Second}
	t.DialContext = dial.DialContext
	base := strings.TrimSuffix(o.URL, "/")
	if path, ok := strings.CutPrefix(o.URL, "unix:"); ok {
		base = "http://unix"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial.DialContext(ctx, "unix", path) }
	} else if u, err := url.Parse(o.URL); err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, ErrBadURL.With("other processes are called by unix:PATH, https://HOST, or http:// to this machine")
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{o, base, &http.Client{Transport: t, CheckRedirect: noRedirect}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call runs a method with the principal of ctx. The error is the fault that the other side returned (without its cause), ErrUnavailable, ErrTimeout, or that of ctx when the caller gave up. It is not repeated:
// whether the other side acted before an error is unknown.
func Call[Out any](ctx context.Context, c *Client, name string, in any) (Out, error) {
	var out Out
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	answer, err := c.call(ctx, name, body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, ErrBadAnswer.Wrap(err)
	}
	return out, nil
}

func (c *Client) call(outer context.Context, name string, body []byte) ([]byte, error) {
	if int64(len(body)) > c.o.MaxBody {
		return nil, ErrTooLarge.With("the call is over the limit of %d bytes", c.o.MaxBody)
	}
	ctx, cancel := context.WithTimeout(outer, c.o.Timeout)
	defer cancel()
	var principal *auth.Principal
	if p, ok := auth.From(ctx); ok {
		principal = &p
	}
	call, err := c.o.sign(principal, name, body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+prefix+name, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(headerCall, call)
	if end, ok := ctx.Deadline(); ok {
		r.Header.Set(headerTimeout, strconv.FormatInt(max(1, time.Until(end).Milliseconds()), 10))
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.broken(outer, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, c.o.MaxBody+1))
	switch {
	case err != nil:
		return nil, c.broken(outer, err)
	case int64(len(answer)) > c.o.MaxBody:
		return nil, ErrTooLarge.With("the answer is over the limit of %d bytes", c.o.MaxBody)
	case resp.StatusCode == http.StatusOK:
		return answer, nil
	case resp.StatusCode == http.StatusInternalServerError:
		return nil, fault.Decode(answer)
	}
	return nil, ErrUnavailable.Wrap(fmt.Errorf("rpc: status %d", resp.StatusCode))
}

func (c *Client) broken(outer context.Context, err error) error {
	if outer.Err() != nil && errors.Is(outer.Err(), context.Canceled) {
		return outer.Err()
	}
	var n net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout() {
		return ErrTimeout.Wrap(err)
	}
	return ErrUnavailable.Wrap(err)
}
