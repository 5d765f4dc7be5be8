package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"maas/internal/inference"
	"maas/internal/platform/fault"
	"maas/internal/platform/web"
)

// trace collects what the attempts of a test came to.
type trace struct {
	attempts []TriedEndpoint
}

// TriedEndpoint is one attempt of a test.
type TriedEndpoint struct {
	Deployment   string     `json:"deployment"`
	DeploymentID string     `json:"deployment_id"`
	Endpoint     string     `json:"endpoint"`
	Status       int        `json:"status"` // that the upstream would get a client: 200, or that of the error
	MS           int64      `json:"ms"`
	Error        *TestError `json:"error"`
}

// TestError is why an attempt failed.
type TestError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// add notes an attempt. A nil trace notes nothing.
func (t *trace) add(a *inference.Attempt, v *verdict, c *call) {
	if t == nil {
		return
	}
	x := TriedEndpoint{Deployment: a.Name(), DeploymentID: a.Deployment, Endpoint: a.Replica, Status: 200}
	if !v.free {
		x.MS = time.Since(c.asked).Milliseconds()
	}
	if e := v.err; e != nil {
		x.Status, x.Error = status(e), &TestError{e.Code, e.Text()}
	}
	t.attempts = append(t.attempts, x)
}

// testClient takes the answer of a test call into memory.
type testClient struct {
	trace  trace
	answer []byte
	err    *fault.Error
	call   string // request id
}

func (t *testClient) head(c *call, _ bool, _ int64) { t.call = c.row.RequestID }

func (t *testClient) write(p []byte) error {
	if len(t.answer) < errorBodyMost {
		t.answer = append(t.answer, p...)
	}
	return nil
}

func (*testClient) flush() error { return nil }

func (t *testClient) refuse(c *call, e *fault.Error) { t.call, t.err = c.row.RequestID, e }

func (t *testClient) breakOff(c *call, e *fault.Error) { t.refuse(c, e) }

// RouteTest is what a test of a route asks.
type RouteTest struct {
	Model  string `json:"model"`  // one of the route's names; its own if empty
	Prompt string `json:"prompt"` // a short one of ours if empty
	Stream bool   `json:"stream"` // ask for a stream, as most programs do
}

// RouteTested is what came of it. The call is booked like any other of the caller's.
type RouteTested struct {
	RequestID string          `json:"request_id"`
	Model     string          `json:"model"`
	OK        bool            `json:"ok"`
	Attempts  []TriedEndpoint `json:"attempts"`
	Answer    string          `json:"answer"`
	Error     *TestError      `json:"error"` // what a client would be told
}

const (
	testPrompt = "Say hello."
	testTokens = 16
	tableWait  = 3 * time.Second // for a route that was made a moment ago
)

// serveRouteTest sends a short request through a route and tells what each attempt came to.
func (g *Gateway) serveRouteTest(w http.ResponseWriter, r *http.Request) {
	cred, err := g.credential(r.Context(), r)
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	who, err := cred.Check(g.Now())
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	var q RouteTest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	if err := d.Decode(&q); err != nil && !errors.Is(err, io.EOF) {
		web.WriteProblem(w, r, ErrInvalidJSON.With("the body is no JSON object"))
		return
	}
	target, err := g.route(r.Context(), who.TenantID, r.PathValue("id"))
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	name := cmp.Or(q.Model, target.Model.ID)
	if t, err := g.Router.Resolve(who.TenantID, name); err != nil || t != target {
		web.WriteProblem(w, r, ErrModelNotFound.With("%.200q is no name of this route", name))
		return
	}
	body, err := json.Marshal(map[string]any{"model": name, "max_tokens": testTokens, "stream": q.Stream, "messages": []map[string]string{{"role": "user", "content": cmp.Or(q.Prompt, testPrompt)}}})
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	out := &testClient{trace: trace{attempts: []TriedEndpoint{}}}
	g.serve(r.Context(), out, &opChat, cred, body, requestID(r.Context()), "")
	a := RouteTested{RequestID: out.call, Model: name, OK: out.err == nil, Attempts: out.trace.attempts, Answer: answerText(out.answer)}
	if out.err != nil {
		a.Error = &TestError{out.err.Code, out.err.Text()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // the client is gone: nothing left to do
}

// route finds a route by id, name or alias in the table. One that was made a moment ago is waited for.
func (g *Gateway) route(ctx context.Context, tenant, ref string) (*inference.Target, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(tableWait); ; {
		if t := g.Router.Route(tenant, ref); t != nil {
			return t, nil
		}
		if time.Now().After(until) {
			return nil, inference.ErrRouteNotFound.With("there is no route %.200q that is switched on", ref)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// answerText takes the text out of a whole answer or out of the events of a stream.
func answerText(b []byte) string {
	type choices struct {
		Choices []struct{ Message, Delta struct{ Content string } }
	}
	var text strings.Builder
	take := func(data []byte) {
		var c choices
		if json.Unmarshal(data, &c) == nil && len(c.Choices) > 0 {
			text.WriteString(c.Choices[0].Message.Content + c.Choices[0].Delta.Content)
		}
	}
	if !bytes.HasPrefix(b, dataField) {
		take(b)
	}
	for line := range bytes.Lines(b) {
		if data, ok := bytes.CutPrefix(line, dataField); ok {
			take(data)
		}
	}
	return text.String()
}
