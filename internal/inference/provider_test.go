package inference

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine/fake"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/fault"
)

func TestProviders(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		up := fake.NewServer("gpt-up", 4, 512)
		up.Key = "sk-right"
		h := httptest.NewServer(up)
		t.Cleanup(h.Close)
		r := start(t, d, fake.Script{})
		ctx := as(t, "ten_a")

		_, err := r.CreateProvider(ctx, NewProvider{Name: "bad", BaseURL: "ftp://x"})
		require.ErrorIs(t, err, ErrProviderInvalid)
		_, err = r.CreateProvider(ctx, NewProvider{Name: "meta", BaseURL: "http://169.254.169.254/v1"})
		require.ErrorIs(t, err, ErrProviderInvalid)
		_, err = r.CreateProvider(ctx, NewProvider{Name: "key", BaseURL: h.URL, APIKey: "two words"})
		require.ErrorIs(t, err, ErrProviderInvalid)

		p, err := r.CreateProvider(ctx, NewProvider{Name: "up", BaseURL: h.URL + "/v1/", APIKey: "sk-wrong"})
		require.NoError(t, err)
		require.Equal(t, h.URL+"/v1", p.BaseURL)
		require.True(t, p.KeySet)
		b, err := json.Marshal(p)
		require.NoError(t, err)
		require.NotContains(t, string(b), "sk-")
		require.NoError(t, d.System().Read(ctx, func(ctx context.Context, q *db.Query) error {
			stored, err := db.One(ctx, q, db.Scalar[string], "SELECT api_key FROM inference_provider WHERE id = $1", p.ID)
			require.NotContains(t, stored, "sk-", "it lies sealed")
			require.NotEmpty(t, stored)
			return err
		}))
		_, err = r.CreateProvider(ctx, NewProvider{Name: "up", BaseURL: h.URL})
		require.ErrorIs(t, err, ErrNameTaken)

		test, err := r.TestProvider(ctx, p.ID)
		require.NoError(t, err)
		require.False(t, test.OK)
		require.Equal(t, "upstream_auth", test.Error.Code)
		p, err = r.Provider(ctx, p.ID)
		require.NoError(t, err)
		require.Equal(t, "failed", p.Status)

		v, err := r.Deploy(ctx, NewDeployment{Name: "remote", Provider: p.ID, UpstreamModel: "gpt-up"})
		require.NoError(t, err)
		require.Equal(t, "openai", v.Engine)
		v = r.status(t, "remote", Failed)
		require.Equal(t, "upstream_auth", v.Reason.Code)

		key := "sk-right"
		p, err = r.UpdateProvider(ctx, p.ID, ProviderPatch{APIKey: &key}, nil)
		require.NoError(t, err)
		require.Equal(t, "unknown", p.Status)
		r.status(t, "remote", Ready)
		a := r.pick(t, "remote")
		require.Equal(t, "gpt-up", a.Endpoint.Model)
		require.Equal(t, "Bearer sk-right", a.Endpoint.Auth.Reveal())
		a.Done(Outcome{Class: OK})
		list, err := r.ProviderModels(ctx, p.ID)
		require.NoError(t, err)
		require.Equal(t, []UpstreamModel{{ID: "gpt-up"}}, list)
		test, err = r.TestProvider(ctx, p.ID)
		require.NoError(t, err)
		require.True(t, test.OK)

		_, err = r.Provider(as(t, "ten_b"), p.ID)
		require.ErrorIs(t, err, ErrProviderNotFound)
		_, err = r.Deploy(as(t, "ten_b"), NewDeployment{Name: "stolen", Provider: p.ID, UpstreamModel: "gpt-up"})
		require.ErrorIs(t, err, ErrSpec)
		err = r.DeleteProvider(ctx, p.ID)
		require.ErrorIs(t, err, ErrProviderInUse)
		require.Contains(t, fault.From(err).Text(), "remote")
		require.NoError(t, r.Delete(ctx, "remote"))
		r.gone(t, "remote")
		require.NoError(t, r.DeleteProvider(ctx, p.ID))
	}, tables...)
}

func TestProviderSpeaksOfAnUnknownModel(t *testing.T) {
	t.Parallel()
	h := httptest.NewServer(fake.NewServer("gpt-up", 4, 512))
	t.Cleanup(h.Close)
	r := start(t, dbtest.Open(t, tables...), fake.Script{})
	ctx := as(t, "ten_a")
	p, err := r.CreateProvider(ctx, NewProvider{Name: "up", BaseURL: h.URL + "/v1"})
	require.NoError(t, err)
	_, err = r.Deploy(ctx, NewDeployment{Name: "remote", Provider: p.ID, UpstreamModel: "gpt-none"})
	require.NoError(t, err)
	v := r.status(t, "remote", Failed)
	require.Equal(t, "upstream_model", v.Reason.Code)
	require.Contains(t, v.Reason.In("zh").Message, "gpt-none")
	require.WithinDuration(t, time.Now(), v.Replicas[0].RetryAt, time.Minute)
}
