// Package rpctest serves a service's calls in a test, over a real socket: so one table of tests runs on the service itself and on its client.
package rpctest

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"maas/internal/platform/rpc"
)

// Secret is the installation's secret in tests.
var Secret = bytes.Repeat([]byte{7}, 32)

// Serve registers a service's methods on a Mux, serves it on a unix socket until the test ends and returns a client for it.
func Serve(t testing.TB, audience string, register func(*rpc.Mux)) *rpc.Client {
	t.Helper()
	m, err := rpc.NewMux(rpc.Options{Secret: Secret, Audience: audience, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	register(m)
	dir, err := os.MkdirTemp("", "rpc") // a socket's path is at most 107 bytes: t.TempDir may be too long
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path) //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: m} //nolint:gosec // a test
	go func() { _ = s.Serve(l) }()
	c, err := rpc.NewClient(rpc.Options{Secret: Secret, Audience: audience, URL: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); _ = s.Close(); _ = os.RemoveAll(dir) })
	return c
}
