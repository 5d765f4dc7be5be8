// Package enginetest is the conformance suite of engine drivers: one table of behaviour that every driver passes, against whatever it drives.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
)

// Subject is a driver with what the suite needs to try it.
type Subject struct {
	Driver engine.Driver
	Launch engine.Launch // a good one; the suite fills Replica, Attempt and Nonce where they are empty

	// HTTP reaches the endpoint where dialling it plainly does not (https, guarded addresses); nil = plainly.
	HTTP func() *http.Client
	// Corrupt, if set, is a launch whose files are broken: Fit or Start must refuse it, or the instance must die with the reason.
	Corrupt *engine.Launch
	// Kill, if set, ends the engine from outside without warning.
	Kill func(t *testing.T, i engine.Instance)
	// Left, if set, lists what is still there of stopped instances: processes, sockets, files.
	Left func() []string
	// Upstream says that there is no process of ours: no nonce, no end of its own.
	Upstream bool
	// Dialect is what the endpoint speaks, "" = OpenAI. HTTP then has to translate: the suite itself speaks OpenAI's.
	Dialect engine.Dialect
	// ChatOnly says that there are no plain completions and no seeds.
	ChatOnly bool
	// Within bounds one start; 0 = 30 s.
	Within time.Duration
}

// Run tries a driver. open is called once per part of the suite, so state does not leak from one to the next.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for name, part := range map[string]func(t *testing.T, s Subject){
		"start":      testStart,
		"shapes":     testShapes,
		"stream":     testStream,
		"stop":       testStopStrings,
		"seed":       testSeed,
		"refusals":   testRefusals,
		"parallel":   testParallel,
		"cancel":     testCancel,
		"stop twice": testStop,
		"corrupt":    testCorrupt,
		"crash":      testCrash,
		"attach":     testAttach,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			if s.Within == 0 {
				s.Within = 30 * time.Second
			}
			part(t, s)
		})
	}
}

// forms are the two forms of a request, chat first; only that where there is no other.
func (s Subject) forms() []bool {
	if s.ChatOnly {
		return []bool{true}
	}
	return []bool{true, false}
}

var replicas struct {
	sync.Mutex
	n int
}

func (s Subject) launch() engine.Launch {
	l := s.Launch
	replicas.Lock()
	replicas.n++
	n := replicas.n
	replicas.Unlock()
	if l.Replica == "" {
		l.Replica = fmt.Sprintf("rep_test%d", n)
	}
	if l.Attempt == 0 {
		l.Attempt = 1
	}
	if l.Nonce == "" {
		l.Nonce = fmt.Sprintf("nonce%026d", n)
	}
	return l
}

// up starts an instance and waits until it is ready. It is stopped at the end of the test.
func (s Subject) up(t *testing.T) engine.Instance {
	t.Helper()
	inst, err := s.Driver.Start(t.Context(), s.launch(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = inst.Stop(context.Background(), time.Second) })
	s.ready(t, inst)
	return inst
}

func (s Subject) ready(t *testing.T, inst engine.Instance) {
	t.Helper()
	deadline := time.Now().Add(s.Within)
	for {
		h := inst.Health(t.Context())
		switch {
		case h.State == engine.Ready:
			return
		case h.State == engine.Dead:
			t.Fatalf("the engine died: %v", h.Err)
		case time.Now().After(deadline):
			t.Fatalf("not ready within %s: %+v", s.Within, h)
		}
		wait(20 * time.Millisecond)
	}
}

// wait is the pause between two looks at something outside this process.
func wait(d time.Duration) { <-time.After(d) }

func testStart(t *testing.T, s Subject) {
	t.Helper()
	needs, err := s.Driver.Fit(t.Context(), s.launch())
	require.NoError(t, err)
	require.NotEmpty(t, needs)
	var sum int64
	for _, b := range needs[0].Parts {
		sum += b
	}
	require.Equal(t, needs[0].HostBytes, sum, "parts sum up to the whole")
	l := s.launch()
	inst, err := s.Driver.Start(t.Context(), l, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = inst.Stop(context.Background(), time.Second) })
	s.ready(t, inst)
	require.NoError(t, inst.Smoke(t.Context()))
	ep := inst.Endpoint()
	require.NotEmpty(t, ep.ID)
	require.NotEmpty(t, ep.Addr)
	require.NotEmpty(t, ep.Host)
	if s.Dialect == "" {
		s.Dialect = engine.OpenAI
	}
	require.Equal(t, s.Dialect, ep.Dialect)
	require.Positive(t, ep.Slots)
	ref := inst.Ref()
	require.Equal(t, l.Replica, ref.Replica)
	require.Equal(t, l.Attempt, ref.Attempt)
	require.Equal(t, l.Nonce, ref.Nonce)
	models, err := s.client(inst).models(t)
	require.NoError(t, err)
	if ep.Model != "" {
		require.Contains(t, models, ep.Model)
	}
	if !s.Upstream {
		require.Equal(t, l.Nonce, models[0], "the nonce proves whose engine answers")
		again, err := s.Driver.Start(t.Context(), l, nil)
		require.NoError(t, err)
		require.Equal(t, ref, again.Ref(), "a second Start of an attempt is the same instance")
	}
	use, err := inst.Measure(t.Context())
	require.NoError(t, err)
	require.True(t, s.Upstream || use.HostBytes > 0)
}

func testShapes(t *testing.T, s Subject) {
	t.Helper()
	c := s.client(s.up(t))
	for _, chat := range s.forms() {
		a := c.whole(t, chat, body{"max_tokens": 5, "temperature": 0})
		require.Equal(t, c.name(), a.Model)
		require.NotEmpty(t, a.ID)
		require.Equal(t, map[bool]string{true: "chat.completion", false: "text_completion"}[chat], a.Object)
		require.Len(t, a.Choices, 1)
		if chat {
			require.Equal(t, "assistant", a.Choices[0].Message.Role)
		}
		require.Contains(t, []string{"stop", "length"}, a.Choices[0].Finish)
		require.LessOrEqual(t, a.Usage.Completion, 5)
		require.Positive(t, a.Usage.Prompt)
		require.Equal(t, a.Usage.Prompt+a.Usage.Completion, a.Usage.Total)
		require.True(t, utf8.ValidString(a.text()))
	}
}

func testStream(t *testing.T, s Subject) {
	t.Helper()
	c := s.client(s.up(t))
	for _, chat := range s.forms() {
		events := c.stream(t, chat, body{"max_tokens": 24, "temperature": 0, "stream_options": map[string]any{"include_usage": true}})
		var text strings.Builder
		var finish string
		for i, e := range events {
			require.Equal(t, events[0].ID, e.ID, "one id for all")
			if len(e.Choices) == 0 {
				require.Equal(t, len(events)-1, i, "the usage comes last")
				continue
			}
			require.Empty(t, finish, "nothing after the finish reason")
			finish = e.Choices[0].Finish
			piece := e.Choices[0].Text + e.Choices[0].Delta.Content
			require.True(t, utf8.ValidString(piece), "event %d ends inside a rune: %q", i, piece)
			text.WriteString(piece)
		}
		if chat {
			require.Equal(t, "assistant", events[0].Choices[0].Delta.Role)
		}
		require.Contains(t, []string{"stop", "length"}, finish)
		last := events[len(events)-1]
		require.NotNil(t, last.Usage, "include_usage")
		whole := c.whole(t, chat, body{"max_tokens": 24, "temperature": 0})
		require.Equal(t, whole.text(), text.String(), "streamed and whole say the same")
		require.Equal(t, whole.Usage.Completion, last.Usage.Completion)
	}
}

func testStopStrings(t *testing.T, s Subject) {
	t.Helper()
	c := s.client(s.up(t))
	full := c.whole(t, s.ChatOnly, body{"max_tokens": 32, "temperature": 0}).text()
	runes := []rune(full)
	if len(runes) < 12 {
		t.Skipf("the model's greedy answer is too short for this: %q", full)
	}
	stop := string(runes[5:9]) // four characters, wherever the borders of tokens lie
	at := strings.Index(full, stop)
	a := c.whole(t, s.ChatOnly, body{"max_tokens": 32, "temperature": 0, "stop": stop})
	require.Equal(t, full[:at], a.text())
	require.Equal(t, "stop", a.Choices[0].Finish)
	var text strings.Builder
	for _, e := range c.stream(t, s.ChatOnly, body{"max_tokens": 32, "temperature": 0, "stop": []string{stop}}) {
		if len(e.Choices) > 0 {
			text.WriteString(e.Choices[0].Text + e.Choices[0].Delta.Content)
		}
	}
	require.Equal(t, full[:at], text.String())
}

func testSeed(t *testing.T, s Subject) {
	t.Helper()
	if s.ChatOnly {
		t.Skip("no seeds")
	}
	c := s.client(s.up(t))
	first := c.whole(t, s.ChatOnly, body{"max_tokens": 24, "temperature": 1.5, "seed": 7}).text()
	require.Equal(t, first, c.whole(t, s.ChatOnly, body{"max_tokens": 24, "temperature": 1.5, "seed": 7}).text())
	for seed := range 5 {
		if c.whole(t, s.ChatOnly, body{"max_tokens": 24, "temperature": 1.5, "seed": 100 + seed}).text() != first {
			return
		}
	}
	t.Fatal("six seeds give one answer")
}

func testRefusals(t *testing.T, s Subject) {
	t.Helper()
	inst := s.up(t)
	c := s.client(inst)
	status, text := c.raw(t, "/chat/completions", []byte(`{"messages": [`))
	require.Equal(t, http.StatusBadRequest, status, text)
	require.Contains(t, text, `"error"`)
	status, text = c.raw(t, "/chat/completions", []byte(`{"model":"`+c.name()+`"}`))
	require.Equal(t, http.StatusBadRequest, status, text)
	if c.ep.Context > 0 {
		long := strings.Repeat("word ", c.ep.Context+10)
		more := body{"prompt": long, "max_tokens": 4}
		if s.ChatOnly {
			more = body{"messages": []map[string]string{{"role": "user", "content": long}}, "max_tokens": 4}
		}
		status, text = c.raw(t, path(s.ChatOnly), c.body(s.ChatOnly, more))
		require.Equal(t, http.StatusBadRequest, status, text)
		require.Contains(t, text, strconv.Itoa(c.ep.Context), "the refusal names the limit")
	}
	require.NoError(t, inst.Smoke(t.Context()), "a refused request harms nobody")
}

func testParallel(t *testing.T, s Subject) {
	t.Helper()
	c := s.client(s.up(t))
	want := c.whole(t, s.ChatOnly, body{"max_tokens": 8, "temperature": 0}).text()
	var all sync.WaitGroup
	got := make([]string, 64)
	for i := range got {
		all.Go(func() { got[i], _ = c.try(t.Context(), s.ChatOnly, body{"max_tokens": 8, "temperature": 0}) })
	}
	all.Wait()
	for i := range got {
		require.Equal(t, want, got[i], "request %d of 64 at once", i)
	}
}

func testCancel(t *testing.T, s Subject) {
	t.Helper()
	inst := s.up(t)
	c := s.client(inst)
	if _, err := inst.Load(t.Context()); err != nil {
		t.Skip("the engine tells no load")
	}
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := c.send(ctx, path(s.ChatOnly), c.body(s.ChatOnly, body{"max_tokens": 100000, "temperature": 1, "stream": true, "ignore_eos": true}))
	require.NoError(t, err)
	piece := make([]byte, 1)
	_, err = resp.Body.Read(piece) // it generates
	require.NoError(t, err)
	cancel()
	_ = resp.Body.Close()
	deadline := time.Now().Add(time.Second)
	for {
		l, err := inst.Load(t.Context())
		if err == nil && l.Running == 0 {
			return
		}
		require.False(t, time.Now().After(deadline), "the slot was not free within a second: %+v", l)
		wait(10 * time.Millisecond)
	}
}

func testStop(t *testing.T, s Subject) {
	t.Helper()
	inst := s.up(t)
	require.NoError(t, inst.Stop(t.Context(), 5*time.Second))
	require.NoError(t, inst.Stop(t.Context(), 5*time.Second), "again")
	select {
	case <-inst.Done():
	default:
		t.Fatal("Done is open after Stop")
	}
	require.Equal(t, engine.Dead, inst.Health(t.Context()).State)
	if s.Left != nil {
		require.Empty(t, s.Left())
	}
}

func testCorrupt(t *testing.T, s Subject) {
	t.Helper()
	if s.Corrupt == nil {
		t.Skip("no files")
	}
	bad := s
	bad.Launch = *s.Corrupt
	_, err := s.Driver.Fit(t.Context(), bad.launch())
	if err == nil {
		inst, startErr := s.Driver.Start(t.Context(), bad.launch(), nil)
		err = startErr
		if startErr == nil {
			select {
			case <-inst.Done():
				err = inst.Health(t.Context()).Err
			case <-time.After(s.Within):
				_ = inst.Stop(t.Context(), time.Second)
				t.Fatal("an engine runs on broken files")
			}
		}
	}
	require.Truef(t, errors.Is(err, engine.ErrModelCorrupt) || errors.Is(err, engine.ErrFormat) || errors.Is(err, engine.ErrArch), "got %v", err)
}

func testCrash(t *testing.T, s Subject) {
	t.Helper()
	if s.Kill == nil {
		t.Skip("there is no process to kill")
	}
	inst := s.up(t)
	c := s.client(inst)
	resp, err := c.send(t.Context(), path(s.ChatOnly), c.body(s.ChatOnly, body{"max_tokens": 100000, "temperature": 1, "stream": true, "ignore_eos": true}))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	piece := make([]byte, 1)
	_, err = resp.Body.Read(piece)
	require.NoError(t, err)
	s.Kill(t, inst)
	whole, err := drain(resp.Body)
	require.True(t, err != nil || !strings.Contains(whole, "[DONE]"), "a broken answer must not look whole")
	select {
	case <-inst.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the end was not noticed")
	}
	h := inst.Health(t.Context())
	require.Equal(t, engine.Dead, h.State)
	require.Truef(t, errors.Is(h.Err, engine.ErrEngineDied) || errors.Is(h.Err, engine.ErrKilled), "got %v", h.Err)
	require.NoError(t, inst.Stop(t.Context(), time.Second))
	if s.Left != nil {
		require.Empty(t, s.Left())
	}
}

func testAttach(t *testing.T, s Subject) {
	t.Helper()
	inst := s.up(t)
	ref := inst.Ref()
	foreign := ref
	foreign.Nonce = "another"
	_, err := s.Driver.Attach(t.Context(), foreign)
	require.ErrorIs(t, err, engine.ErrGone, "a foreign nonce")
	again, err := s.Driver.Attach(t.Context(), ref)
	if err == nil {
		require.Equal(t, ref, again.Ref())
		require.NoError(t, again.Smoke(t.Context()))
		return
	}
	require.ErrorIs(t, err, engine.ErrGone)
	if s.Upstream {
		return
	}
	select { // an engine that cannot be taken over must not go on beside its successor
	case <-inst.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("Attach said gone and left it running")
	}
}
