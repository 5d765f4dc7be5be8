package main

import (
	"context"
	"fmt"
	"time"
)

// bills compares what was booked with what the upstreams wrote and what the clients got.
func (k *soak) bills(ctx context.Context) {
	for _, o := range k.kept {
		if o.id == "" {
			continue
		}
		var u struct {
			End        string
			Source     string
			Deployment string `json:"deployment_id"`
			Completion int    `json:"completion_tokens"`
			Attempts   int
		}
		if !k.booked(ctx, o.id, &u) {
			continue
		}
		wrote := 0
		for _, up := range k.ups {
			wrote += up.Emitted(o.id)
		}
		where := fmt.Sprintf("%s: end %s, source %s, %d attempts, %d booked, %d delivered, %d written", o.id, u.End, u.Source, u.Attempts, u.Completion, o.pieces, wrote)
		switch {
		case u.Completion > wrote:
			k.blame("more was booked than written: %s", where)
		case o.left && u.Completion < o.pieces, !o.left && u.Completion != o.pieces:
			k.blame("what was booked is not what was delivered: %s", where)
		case o.done && u.End != "done", !o.done && !o.left && u.End != "upstream_error":
			k.blame("the end is another: %s", where)
		}
	}
}

func (k *soak) booked(ctx context.Context, id string, out any) bool {
	var err error
	for range 200 {
		if err = k.s.call(ctx, "GET", "/usage/requests/"+id, nil, out); err == nil {
			return true
		}
		pause(ctx, 100*time.Millisecond)
	}
	k.blame("%s was never booked: %v", id, err)
	return false
}

// quiet looks for what is left when nobody asks any more: requests, connections, goroutines.
func (k *soak) quiet(ctx context.Context) {
	k.s.http.CloseIdleConnections()
	open, goroutines := 0, 0.0
	for range 300 {
		open = 0
		for _, u := range k.ups {
			open += u.Open()
		}
		goroutines = k.s.metric(ctx, "go_goroutines")
		if open <= len(k.ups)*2 && k.s.metric(ctx, "maas_gateway_inflight") == 0 && goroutines < 200 {
			break
		}
		pause(ctx, 100*time.Millisecond)
	}
	fmt.Printf("afterwards: %d connections to upstreams, %.0f goroutines, %d files\n", open, goroutines, k.s.files())
	if open > len(k.ups)*2 { // probes and looks at their health keep one or two
		k.blame("%d connections to upstreams stay open", open)
	}
	if n := k.s.metric(ctx, "maas_gateway_inflight"); n != 0 {
		k.blame("%v requests are still under way", n)
	}
	if goroutines >= 200 {
		k.blame("%v goroutines are left", goroutines)
	}
	if n := k.s.metric(ctx, "maas_gateway_unsettled_total"); n != 0 {
		k.blame("%v requests were not settled, or twice", n)
	}
	if k.o.time >= 20*time.Second && k.s.metric(ctx, "maas_inference_breaker_moves_total") == 0 {
		k.blame("no breaker ever moved")
	}
}
