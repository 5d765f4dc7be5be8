package gateway

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"maas/internal/inference"
	"maas/internal/platform/h1"
)

// Times of health probes. They ask for the list of models, which costs no tokens.
const (
	probeTick  = 500 * time.Millisecond
	probeOpen  = 2 * time.Second  // of endpoints that are kept out
	probeIdle  = 30 * time.Second // of endpoints that nobody used for so long
	probeLimit = 5 * time.Second
	probesMost = 16 // at a time
)

// probe asks endpoints whether they are there until ctx ends: those that are kept out, so that they come back soon after they are well, and those that no request has tried of late, so that a dead one is
// found before a client finds it.
func (g *Gateway) probe(ctx context.Context) {
	t := time.NewTicker(probeTick)
	defer t.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, probesMost)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, p := range g.Router.Due(probeOpen, probeIdle, rand.Float64) {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			running.Go(func() {
				defer func() { <-slots }()
				g.probeOne(ctx, p)
			})
		}
	}
}

// probeOne asks one endpoint. Any answer but one of a server in trouble means that it is there: what it says of our key, or of a path it does not have, the requests will show.
func (g *Gateway) probeOne(ctx context.Context, p inference.Probe) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	ep := &p.Endpoint
	q := h1.Request{
		Address: h1.Address{Network: ep.Network, Addr: ep.Addr, TLS: ep.TLS, Name: ep.Host}, Method: "GET", Path: ep.Path("/models"), Host: ep.Host, Auth: ep.Auth.Reveal(), AuthName: ep.AuthName, Headers: ep.Headers, First: probeLimit,
	}
	answer, err := g.pool.Do(ctx, &q)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) { // we are being stopped
			p.Done(true, "", "")
			return
		}
		e := asFault(err)
		if ctx.Err() != nil {
			e = ErrUpstreamTimeout
		}
		g.metrics.probes.WithLabelValues("failed").Inc()
		p.Done(false, e.Code, e.Text())
		return
	}
	defer answer.Close()
	for size := 0; size < errorBodyMost; {
		piece, _, err := answer.Next(probeLimit)
		size += len(piece)
		if errors.Is(err, io.EOF) || err != nil {
			break
		}
	}
	if answer.Status >= 500 {
		e := readRefusal(answer.Status, "", nil).fault()
		g.metrics.probes.WithLabelValues("failed").Inc()
		p.Done(false, e.Code, e.Text())
		return
	}
	g.metrics.probes.WithLabelValues("answered").Inc()
	p.Done(true, "", "")
}
