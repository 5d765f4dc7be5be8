package openai_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/enginetest"
	"maas/internal/inference/engine/fake"
	"maas/internal/inference/engine/openai"
	"maas/internal/platform/netguard"
)

func upstream(t *testing.T, change func(*fake.Server)) *httptest.Server {
	t.Helper()
	s := fake.NewServer("gpt-fake", 16, 512)
	s.TokenDelay = time.Millisecond
	s.Key = "sk-right"
	if change != nil {
		change(s)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h
}

func launch(h *httptest.Server, key, model string) engine.Launch {
	return engine.Launch{Replica: "rep_up", Attempt: 1, Nonce: "n", Model: model, Context: 512, Concurrency: 16, Upstream: &engine.Upstream{BaseURL: h.URL + "/v1", Key: engine.Secret(key)}}
}

var loopback = netguard.Policy{AllowLoopback: true}

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		t.Helper()
		return enginetest.Subject{Driver: openai.New(loopback), Launch: launch(upstream(t, nil), "sk-right", "gpt-fake"), Upstream: true}
	})
}

func TestStartRefusals(t *testing.T) {
	t.Parallel()
	h := upstream(t, nil)
	_, err := openai.New(loopback).Start(t.Context(), launch(h, "sk-wrong", "gpt-fake"), nil)
	require.ErrorIs(t, err, engine.ErrUpstreamAuth)
	require.NotContains(t, err.Error(), "sk-wrong")

	_, err = openai.New(netguard.Policy{}).Start(t.Context(), launch(h, "sk-right", "gpt-fake"), nil)
	require.ErrorIs(t, err, netguard.ErrAddress, "loopback is not allowed by itself")

	inst, err := openai.New(loopback).Start(t.Context(), launch(h, "sk-right", "missing"), nil)
	require.NoError(t, err)
	require.ErrorIs(t, inst.Smoke(t.Context()), engine.ErrUpstreamModel)

	h.Close()
	_, err = openai.New(loopback).Start(t.Context(), launch(h, "sk-right", "gpt-fake"), nil)
	require.ErrorIs(t, err, engine.ErrUpstream)
}

func TestSmoke(t *testing.T) {
	t.Parallel()
	wrong := upstream(t, func(s *fake.Server) { s.Wrong = true })
	inst, err := openai.New(loopback).Start(t.Context(), launch(wrong, "sk-right", "gpt-fake"), nil)
	require.NoError(t, err)
	require.ErrorIs(t, inst.Smoke(t.Context()), engine.ErrSmoke)

	base := upstream(t, func(s *fake.Server) { s.NoChat = true }) // a base model: completions only
	inst, err = openai.New(loopback).Start(t.Context(), launch(base, "sk-right", "gpt-fake"), nil)
	require.NoError(t, err)
	require.NoError(t, inst.Smoke(t.Context()))
}
