package model

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
	"maas/internal/model/check"
	"maas/internal/platform/page"
)

func gguf(t *testing.T, s modelgen.Spec) []byte {
	t.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	return b
}

// The main road: create, upload, version, checks, report, files, download, folder for an engine.
func TestImport(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		t := x.t
		b := gguf(t, modelgen.Spec{Arch: "qwen3", Type: quant.Q8_0, Seed: 7})
		m := decode[Model](x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "My-Model", Description: "d"}).want(http.StatusCreated))
		require.Nil(t, m.Latest)
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "my-model"}).want(http.StatusConflict, "model.name_taken")
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "a/b"}).want(http.StatusUnprocessableEntity, "model.bad_name")

		a := x.add("my-model", files{"q8.gguf": b}).want(http.StatusAccepted)
		v := decode[Version](a)
		require.Equal(t, "/api/v1/jobs/"+v.JobID, a.header.Get("Location"))
		require.Equal(t, []File{{"q8.gguf", int64(len(b)), sha(b)}}, v.Files)
		e := next[VersionReady](x)
		require.Equal(t, VersionReady{VersionID: v.ID, ModelID: m.ID, Name: "My-Model", Number: 1, Status: "ready"}, e)

		v = decode[Version](x.do("viewer.a", http.MethodGet, "/api/v1/models/my-model/versions/1", nil).want(http.StatusOK))
		require.Equal(t, "ready", v.Status)
		require.Nil(t, v.Reason)
		require.Equal(t, "gguf qwen3 q8_0", v.Format+" "+v.Architecture+" "+v.Quantization)
		require.Equal(t, 512, v.ContextLength)
		require.Positive(t, v.Parameters)
		require.NotEmpty(t, v.Metadata.Memory)
		r := decode[Report](x.do("viewer.a", http.MethodGet, "/api/v1/models/my-model/versions/1/report", nil).want(http.StatusOK))
		require.Equal(t, "ready", r.Status)
		require.Len(t, r.Checks, 9)
		m = decode[Model](x.do("viewer.a", http.MethodGet, "/api/v1/models/"+m.ID, nil).want(http.StatusOK))
		require.Equal(t, v.ID, m.Latest.ID)
		require.Equal(t, int64(len(b)), m.SizeBytes)
		require.Equal(t, 1, m.Versions)

		again := decode[Version](x.add("my-model", files{"q8.gguf": b}).want(http.StatusAccepted))
		require.Equal(t, v.ID, again.ID, "the same files are the same version")
		x.download(b)
		x.resolve(v, b)
	})
}

func (x *set) download(b []byte) {
	t := x.t
	const path = "/api/v1/models/my-model/versions/1/files"
	l := decode[page.List[File]](x.do("viewer.a", http.MethodGet, path, nil).want(http.StatusOK))
	require.Len(t, l.Items, 1)
	a := x.do("viewer.a", http.MethodGet, path+"/q8.gguf", nil).want(http.StatusOK)
	require.True(t, bytes.Equal(b, a.body))
	require.Equal(t, `"`+sha(b)+`"`, a.header.Get("ETag"))
	require.Equal(t, "application/octet-stream", a.header.Get("Content-Type"))
	a = x.do("viewer.a", http.MethodGet, path+"/q8.gguf", nil, "Range", "bytes=4-7").want(http.StatusPartialContent)
	require.Equal(t, b[4:8], a.body)
	x.do("viewer.a", http.MethodGet, path+"/q8.gguf", nil, "Range", "bytes=999999999-").want(http.StatusRequestedRangeNotSatisfiable)
	x.do("viewer.a", http.MethodGet, path+"/q8.gguf", nil, "If-None-Match", `"`+sha(b)+`"`).want(http.StatusNotModified)
	x.do("viewer.a", http.MethodGet, path+"/none", nil).want(http.StatusNotFound, "model.file_not_found")
	x.do("viewer.a", http.MethodGet, "/api/v1/models/my-model/versions/2/files/q8.gguf", nil).want(http.StatusNotFound, "model.version_not_found")
}

func (x *set) resolve(want Version, b []byte) {
	t := x.t
	ctx := ctxOf(t, "a")
	for _, ref := range []string{"my-model", "MY-MODEL@r1", want.ID} {
		v, err := x.s.Resolve(ctx, ref)
		require.NoError(t, err, ref)
		require.Equal(t, want, v, ref)
	}
	_, err := x.s.Resolve(ctx, "my-model@r2")
	require.ErrorIs(t, err, ErrNoVersion)
	_, err = x.s.Resolve(ctxOf(t, "b"), want.ID)
	require.ErrorIs(t, err, ErrNoVersion, "a foreign version does not exist")
	d, err := x.s.Materialize(ctx, want.ID)
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(d.Path, d.Files[0].Path))
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
	src, err := arch.Open(d.Path)
	require.NoError(t, err)
	require.NoError(t, src.Close())
	r, err := x.s.Open(ctx, want.ID, "q8.gguf")
	require.NoError(t, err)
	require.Equal(t, int64(len(b)), r.Size())
	require.NoError(t, r.Close())
}

// A folder as on the Hugging Face Hub, with a file in a subfolder.
func TestImportFolder(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		f, err := modelgen.Dir(modelgen.Spec{Type: quant.BF16})
		require.NoError(x.t, err)
		f["assets/readme.md"] = []byte("# hi")
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "hf"}).want(http.StatusCreated)
		v := decode[Version](x.add("hf", f).want(http.StatusAccepted))
		next[VersionReady](x)
		v, err = x.s.byID(ctxOf(x.t, "a"), v.ID)
		require.NoError(x.t, err)
		require.Equal(x.t, "safetensors llama bf16 ready", v.Format+" "+v.Architecture+" "+v.Quantization+" "+v.Status)
	})
}

// Every bad file is refused with its reason, in the version and in the report.
func TestBadFilesAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		good := gguf(x.t, modelgen.Spec{})
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "bad"}).want(http.StatusCreated)
		for i, c := range []struct {
			f    files
			code string
		}{
			{files{"m.gguf": good[:len(good)/2]}, "llm.file_truncated"},
			{files{"m.gguf": append([]byte("GGUF\x03\x00\x00\x00"), bytes.Repeat([]byte{0xff}, 16)...)}, "llm.gguf_tensor_count"},
			{files{"pytorch_model.bin": []byte("\x80\x02cos\nsystem\n.")}, "llm.pickle_refused"},
		} {
			x.add("bad", c.f).want(http.StatusAccepted)
			e := next[VersionRejected](x)
			require.Equal(x.t, c.code, e.Code)
			v, err := x.s.Version(ctxOf(x.t, "a"), "bad", i+1)
			require.NoError(x.t, err)
			require.Equal(x.t, Rejected, v.Status)
			require.Equal(x.t, c.code, v.Reason.Code)
			require.NotEmpty(x.t, v.Reason.Message)
			require.NotEmpty(x.t, v.Reason.Hint)
			r, err := x.s.Report(ctxOf(x.t, "a"), "bad", i+1)
			require.NoError(x.t, err)
			require.Equal(x.t, Rejected, r.Status)
			out := check.Output{Rows: r.Checks}
			require.Equal(x.t, c.code, out.First(check.Reject).Code)
		}
		v, err := x.s.Resolve(ctxOf(x.t, "a"), "bad")
		require.NoError(x.t, err)
		require.Equal(x.t, 3, v.Number, "without a usable version the newest tells why")
	})
}

func TestUploadsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "one"}).want(http.StatusCreated)
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "two"}).want(http.StatusCreated)
		x.do("dev.b", http.MethodPost, "/api/v1/models", NewModel{Name: "one"}).want(http.StatusCreated)
		id := x.upload("dev.a", []byte("x"), "model", "two", "path", "m.gguf")
		foreign := x.upload("dev.b", []byte("y"), "model", "one", "path", "m.gguf")
		post := func(uploads ...string) answer {
			in := NewVersion{}
			for i, u := range uploads {
				in.Files = append(in.Files, NewFile{Path: string(rune('a'+i)) + ".gguf", UploadID: u})
			}
			return x.do("dev.a", http.MethodPost, "/api/v1/models/one/versions", in)
		}
		post("upl_none").want(http.StatusUnprocessableEntity, "model.bad_upload")
		post(id).want(http.StatusUnprocessableEntity, "model.bad_upload")
		post(foreign).want(http.StatusUnprocessableEntity, "model.bad_upload")
		own := x.upload("dev.a", []byte("x"), "model", "one")
		x.do("dev.a", http.MethodPost, "/api/v1/models/one/versions", NewVersion{Files: []NewFile{{"../x", own}}}).want(http.StatusBadRequest, "model.bad_path")
		x.do("dev.a", http.MethodPost, "/api/v1/models/none/versions", NewVersion{Files: []NewFile{{"x", own}}}).want(http.StatusNotFound, "model.not_found")
		x.do("viewer.a", http.MethodPost, "/api/v1/models/one/versions", NewVersion{Files: []NewFile{{"x", own}}}).want(http.StatusForbidden)
		m := decode[Model](x.do("dev.a", http.MethodGet, "/api/v1/models/one", nil).want(http.StatusOK))
		require.Equal(x.t, 0, m.Versions)
	})
}

// The promised SHA-256 is compared when the last byte has come.
func TestWrongHashIsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		b := gguf(x.t, modelgen.Spec{})
		meta := "purpose " + base64.StdEncoding.EncodeToString([]byte("model")) + ",sha256 " + base64.StdEncoding.EncodeToString([]byte(sha(b)))
		at := x.do("dev.a", http.MethodPost, "/api/v1/uploads", nil, "Tus-Resumable", "1.0.0", "Upload-Length", strconv.Itoa(len(b)), "Upload-Metadata", meta).want(http.StatusCreated).header.Get("Location")
		b[1000] ^= 1
		a := x.do("dev.a", http.MethodPatch, at, b, "Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream")
		require.GreaterOrEqual(x.t, a.status, 400)
		require.Contains(x.t, string(a.body), "upload.checksum")
	})
}

// Equal and empty files are kept once and come back under every path.
func TestEqualAndEmptyFiles(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		b := gguf(x.t, modelgen.Spec{})
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "m"}).want(http.StatusCreated)
		v := decode[Version](x.add("m", files{"m.gguf": b, "a.txt": {}, "b.txt": {}, "c.txt": []byte("same"), "d/c.txt": []byte("same")}).want(http.StatusAccepted))
		require.Equal(x.t, int64(len(b)+4), v.SizeBytes)
		next[VersionReady](x)
		d, err := x.s.Materialize(ctxOf(x.t, "a"), v.ID)
		require.NoError(x.t, err)
		require.Len(x.t, d.Files, 5)
		left, err := x.s.Objects.List(x.t.Context(), "upload/", "", 10)
		require.NoError(x.t, err)
		require.Empty(x.t, left, "uploads leave nothing behind")
	})
}

type inUse struct{ names []string }

func (u inUse) ModelUses(context.Context, string) ([]string, error) { return u.names, nil }

// A model in use stays; a deleted one is gone at once, its bytes after the grace, unless another version names them.
func TestDelete(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		t := x.t
		b, shared := gguf(t, modelgen.Spec{Seed: 1}), gguf(t, modelgen.Spec{Seed: 2})
		for _, name := range []string{"one", "two"} {
			x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: name}).want(http.StatusCreated)
		}
		v := decode[Version](x.add("one", files{"m.gguf": b}).want(http.StatusAccepted))
		next[VersionReady](x)
		x.add("one", files{"m.gguf": shared}).want(http.StatusAccepted)
		next[VersionReady](x)
		x.add("two", files{"m.gguf": shared}).want(http.StatusAccepted)
		next[VersionReady](x)

		x.s.SetDependents(inUse{[]string{"deployment chat"}})
		a := x.do("dev.a", http.MethodDelete, "/api/v1/models/one", nil).want(http.StatusConflict, "model.in_use")
		require.Contains(t, string(a.body), "deployment chat")
		x.s.SetDependents(inUse{})
		x.do("viewer.a", http.MethodDelete, "/api/v1/models/one", nil).want(http.StatusForbidden)
		x.do("dev.b", http.MethodDelete, "/api/v1/models/one", nil).want(http.StatusNotFound)
		x.do("dev.a", http.MethodDelete, "/api/v1/models/one", nil).want(http.StatusNoContent)
		require.Equal(t, v.ID, next[RepoDeleted](x).Versions[0])
		require.NoError(t, os.MkdirAll(filepath.Join(x.data, "cache", v.ID), 0o700)) // as if the event had come while this process was away
		x.do("dev.a", http.MethodGet, "/api/v1/models/one", nil).want(http.StatusNotFound, "model.not_found")

		here := func(b []byte) bool {
			_, err := x.s.Objects.Stat(t.Context(), blobKey("a", sha(b)))
			return err == nil
		}
		require.NoError(t, x.s.collect(t.Context()))
		require.True(t, here(b), "kept for the grace")
		require.NoDirExists(t, filepath.Join(x.data, "cache", v.ID))
		x.advance(25 * time.Hour)
		require.NoError(t, x.s.collect(t.Context()))
		require.True(t, here(b), "condemned, looked at again later")
		x.advance(2 * time.Hour)
		require.NoError(t, x.s.collect(t.Context()))
		require.False(t, here(b))
		require.True(t, here(shared), "another version names it")

		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "one"}).want(http.StatusCreated)
		x.add("one", files{"m.gguf": b}).want(http.StatusAccepted)
		next[VersionReady](x)
		require.True(t, here(b), "uploaded again after it was collected")
	})
}

// A condemned blob that is uploaded again stays.
func TestUploadRevivesACondemnedFile(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		b := gguf(x.t, modelgen.Spec{Seed: 1})
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "one"}).want(http.StatusCreated)
		x.add("one", files{"m.gguf": b}).want(http.StatusAccepted)
		next[VersionReady](x)
		x.do("dev.a", http.MethodDelete, "/api/v1/models/one", nil).want(http.StatusNoContent)
		x.advance(25 * time.Hour)
		require.NoError(x.t, x.s.collect(x.t.Context()))
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "two"}).want(http.StatusCreated)
		x.add("two", files{"m.gguf": b}).want(http.StatusAccepted)
		next[VersionReady](x)
		x.advance(2 * time.Hour)
		require.NoError(x.t, x.s.collect(x.t.Context()))
		_, err := x.s.Objects.Stat(x.t.Context(), blobKey("a", sha(b)))
		require.NoError(x.t, err)
	})
}

func TestDemo(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		x.do("viewer.a", http.MethodPost, "/api/v1/models/demo", nil).want(http.StatusForbidden)
		m := decode[Model](x.do("dev.a", http.MethodPost, "/api/v1/models/demo", nil).want(http.StatusCreated))
		require.Equal(x.t, "ready", m.Latest.Status)
		require.Contains(x.t, m.Description, "not a language model")
		again := decode[Model](x.do("dev.a", http.MethodPost, "/api/v1/models/demo", nil).want(http.StatusCreated))
		require.Equal(x.t, m.Latest.ID, again.Latest.ID)
		require.Equal(x.t, 1, again.Versions)
		other := decode[Model](x.do("dev.b", http.MethodPost, "/api/v1/models/demo", nil).want(http.StatusCreated))
		require.NotEqual(x.t, m.ID, other.ID)
		next[VersionReady](x)
	})
}

func TestOtherTenantsSeeNothing(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		m := decode[Model](x.do("dev.a", http.MethodPost, "/api/v1/models/demo", nil).want(http.StatusCreated))
		for _, ref := range []string{m.ID, m.Name} {
			for _, path := range []string{"", "/versions", "/versions/1", "/versions/1/report", "/versions/1/files", "/versions/1/files/maas-demo-f32.gguf"} {
				x.do("dev.b", http.MethodGet, "/api/v1/models/"+ref+path, nil).want(http.StatusNotFound, "model.not_found")
				x.do("", http.MethodGet, "/api/v1/models/"+ref+path, nil).want(http.StatusUnauthorized)
			}
		}
		l := decode[page.List[Model]](x.do("dev.b", http.MethodGet, "/api/v1/models", nil).want(http.StatusOK))
		require.Empty(x.t, l.Items)
	})
}

func TestListAndChange(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		t := x.t
		for _, n := range []string{"Beta", "alpha", "gamma_1", "gammaX1"} {
			x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: n}).want(http.StatusCreated)
		}
		var names []string
		path := "/api/v1/models?limit=2"
		for path != "" {
			l := decode[page.List[Model]](x.do("viewer.a", http.MethodGet, path, nil).want(http.StatusOK))
			for _, m := range l.Items {
				names = append(names, m.Name)
			}
			path = ""
			if l.Next != nil {
				path = "/api/v1/models?limit=2&after=" + *l.Next
			}
		}
		require.Equal(t, []string{"alpha", "Beta", "gamma_1", "gammaX1"}, names)
		l := decode[page.List[Model]](x.do("viewer.a", http.MethodGet, "/api/v1/models?q=A_1", nil).want(http.StatusOK))
		require.Len(t, l.Items, 1, "an underscore is no wildcard")
		x.do("viewer.a", http.MethodGet, "/api/v1/models?after=x", nil).want(http.StatusBadRequest, "web.bad_cursor")

		m := decode[Model](x.do("dev.a", http.MethodPatch, "/api/v1/models/alpha", map[string]string{"name": "omega", "description": "new"}).want(http.StatusOK))
		require.Equal(t, "omega new", m.Name+" "+m.Description)
		x.do("dev.a", http.MethodPatch, "/api/v1/models/omega", map[string]string{"name": "beta"}).want(http.StatusConflict, "model.name_taken")
		x.do("dev.a", http.MethodPatch, "/api/v1/models/omega", map[string]string{"description": "late"}, "If-Match", `"1"`).want(http.StatusPreconditionFailed)
		x.do("viewer.a", http.MethodPatch, "/api/v1/models/omega", map[string]string{"description": "x"}).want(http.StatusForbidden)
	})
}

// The bytes of a version vanish from the storage: it ends as failed, and says so.
func TestLostBytesAreTold(t *testing.T) {
	t.Parallel()
	each(t, func(x *set) {
		b := gguf(x.t, modelgen.Spec{Seed: 9})
		x.do("dev.a", http.MethodPost, "/api/v1/models", NewModel{Name: "one"}).want(http.StatusCreated)
		ctx := ctxOf(x.t, "a")
		m, err := x.s.Model(ctx, "one")
		require.NoError(x.t, err)
		v, err := x.s.add(ctx, m, "", []File{{"m.gguf", int64(len(b)), sha(b)}}, enqueue)
		require.NoError(x.t, err)
		e := next[VersionRejected](x)
		require.Equal(x.t, "failed model.blob_lost", e.Status+" "+e.Code)
		_, err = x.s.Materialize(ctx, v.ID)
		require.ErrorIs(x.t, err, ErrBlobLost)
	})
}
