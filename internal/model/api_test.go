package model

import (
	"bytes"
	"context"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/modelgen"
	"maas/internal/platform/rpc"
)

// The same questions to the service in this process and to one over the wire.
func TestAPI(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		t := x.t
		_, err := x.s.Demo(ctxOf(t, "a"))
		require.NoError(t, err)
		want, err := modelgen.GGUF(modelgen.DemoSpec())
		require.NoError(t, err)
		o := rpc.Options{Secret: bytes.Repeat([]byte{1}, 32), Audience: "model"}
		mux, err := rpc.NewMux(o)
		require.NoError(t, err)
		x.s.Serve(mux)
		srv := httptest.NewServer(mux)
		defer srv.Close()
		o.URL = srv.URL
		c, err := rpc.NewClient(o)
		require.NoError(t, err)
		for name, api := range map[string]API{"local": x.s, "remote": NewClient(c, filepath.Join(x.data, "remote"))} {
			ask(t, ctxOf(t, "a"), ctxOf(t, "b"), name, api, want)
		}
	})
}

func ask(t *testing.T, ctx, foreign context.Context, name string, api API, want []byte) {
	t.Helper()
	v, err := api.Resolve(ctx, DemoName)
	require.NoError(t, err, name)
	require.True(t, v.Usable(), name)
	require.Equal(t, int64(len(want)), v.SizeBytes, name)
	_, err = api.Resolve(ctx, "none")
	require.ErrorIs(t, err, ErrNotFound, name)
	_, err = api.Resolve(foreign, DemoName)
	require.ErrorIs(t, err, ErrNotFound, name)
	_, err = api.Materialize(foreign, v.ID)
	require.ErrorIs(t, err, ErrNoVersion, name)

	d, err := api.Materialize(ctx, v.ID)
	require.NoError(t, err, name)
	again, err := api.Materialize(ctx, v.ID)
	require.NoError(t, err, name)
	require.Equal(t, d, again, name)
	got, err := os.ReadFile(filepath.Join(d.Path, filepath.FromSlash(d.Files[0].Path)))
	require.NoError(t, err, name)
	require.True(t, bytes.Equal(want, got), name)

	_, err = api.Open(ctx, v.ID, "none")
	require.ErrorIs(t, err, ErrFileNotFound, name)
	r, err := api.Open(ctx, v.ID, d.Files[0].Path)
	require.NoError(t, err, name)
	all, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	require.NoError(t, err, name)
	require.True(t, bytes.Equal(want, all), name)
	n, err := r.ReadAt(make([]byte, 10), r.Size()-4)
	require.Equal(t, 4, n, name)
	require.ErrorIs(t, err, io.EOF, name)
	require.NoError(t, r.Close(), name)
}
