// Package rpc calls another service by its Go interface over HTTP: one JSON POST per call, the same faults on both sides, the caller's principal signed with the installation's secret.
package rpc

import (
	"context"
	"net/http"
	"time"
)

// Options of both sides.
type Options struct {
	Secret   []byte        // 32 bytes shared by all processes (seal.Ring.Derive("rpc"))
	Audience string        // name of the called set: "inference"; a token for one is refused by others
	URL      string        // client: http://127.0.0.1:PORT, unix:PATH or https://...; plain HTTP only to this machine
	Timeout  time.Duration // client, per call; 0 = 30 s
	MaxBody  int64         // request and answer; 0 = 8 MiB
}

// Mux dispatches calls. It is an http.Handler for /rpc/{method}.
type Mux struct{}

// NewMux makes a Mux.
func NewMux(o Options) (*Mux, error) { panic("filled next") }

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("filled next") }

// Handle registers a method `<service>.<Method>`. f runs with the caller's principal in ctx.
func Handle[In, Out any](m *Mux, name string, f func(ctx context.Context, in In) (Out, error)) {
	panic("filled next")
}

// Client calls one process.
type Client struct{}

// NewClient makes a Client.
func NewClient(o Options) (*Client, error) { panic("filled next") }

// Call runs a method with the principal of ctx. The error is the fault that the other side returned, rpc.unavailable or rpc.timeout.
func Call[Out any](ctx context.Context, c *Client, name string, in any) (Out, error) {
	panic("filled next")
}
