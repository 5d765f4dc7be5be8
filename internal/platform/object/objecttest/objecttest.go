// Package objecttest is the conformance suite of buckets.
package objecttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/object"
)

// Bytes returns n bytes that look random and are the same each time.
func Bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

func sum(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

func read(t *testing.T, b object.Bucket, key string, off, n int64) []byte {
	t.Helper()
	r, _, err := b.Get(t.Context(), key, off, n)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return got
}

func put(t *testing.T, b object.Bucket, key string, data []byte) {
	t.Helper()
	_, err := b.Put(t.Context(), key, bytes.NewReader(data), object.PutOptions{})
	require.NoError(t, err)
}

// Run checks a bucket. open gives an empty one; reopen the same again, as another process would.
func Run(t *testing.T, open func(t *testing.T) (b object.Bucket, reopen func() object.Bucket)) {
	for name, f := range map[string]func(*testing.T, object.Bucket, func() object.Bucket){
		"put and get": putGet, "checks": checks, "if absent": ifAbsent, "replace": replace, "keys": keys, "list": list, "move": move, "parts": multipart, "append": appends,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, reopen := open(t)
			f(t, b, reopen)
		})
	}
}

func putGet(t *testing.T, b object.Bucket, reopen func() object.Bucket) {
	for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 + 1, 5 << 20} {
		data := Bytes(n)
		key := fmt.Sprintf("probe/t1/size-%d", n)
		info, err := b.Put(t.Context(), key, iotest.HalfReader(bytes.NewReader(data)), object.PutOptions{Size: int64(n), SHA256: sum(data)})
		require.NoError(t, err)
		require.Equal(t, []any{key, int64(n), sum(data)}, []any{info.Key, info.Size, info.SHA256})
		require.False(t, info.Modified.IsZero())
		again := reopen()
		require.True(t, bytes.Equal(data, read(t, again, key, 0, -1)))
		st, err := again.Stat(t.Context(), key)
		require.NoError(t, err)
		require.EqualValues(t, n, st.Size)
		for _, r := range [][2]int64{{0, 0}, {0, 1}, {int64(n) / 3, 100}, {int64(n), 10}, {int64(n) / 2, int64(n)}} {
			want := data[r[0]:min(int64(n), r[0]+r[1])]
			require.True(t, bytes.Equal(want, read(t, b, key, r[0], r[1])), "range %v of %d", r, n)
		}
		_, _, err = b.Get(t.Context(), key, int64(n)+1, 1)
		require.ErrorIs(t, err, object.ErrRange)
	}
	_, _, err := b.Get(t.Context(), "probe/t1/none", 0, -1)
	require.ErrorIs(t, err, object.ErrNotFound)
	_, err = b.Stat(t.Context(), "probe/t1")
	require.ErrorIs(t, err, object.ErrNotFound, "a folder is no object")
	_, err = b.Stat(t.Context(), "probe/t1/size-0/below")
	require.ErrorIs(t, err, object.ErrNotFound)
	require.NoError(t, b.Delete(t.Context(), "probe/t1/size-1", "probe/t1/none", "probe/t1/size-0/below"))
	_, err = b.Stat(t.Context(), "probe/t1/size-1")
	require.ErrorIs(t, err, object.ErrNotFound)
}

func checks(t *testing.T, b object.Bucket, _ func() object.Bucket) {
	ctx := t.Context()
	data := Bytes(1000)
	_, err := b.Put(ctx, "probe/t1/x", bytes.NewReader(data), object.PutOptions{Size: 999})
	require.ErrorIs(t, err, object.ErrSize)
	_, err = b.Put(ctx, "probe/t1/x", bytes.NewReader(data), object.PutOptions{Size: 1001})
	require.ErrorIs(t, err, object.ErrSize)
	_, err = b.Put(ctx, "probe/t1/x", bytes.NewReader(data), object.PutOptions{SHA256: sum(nil)})
	require.ErrorIs(t, err, object.ErrChecksum)
	broken := errors.New("cut")
	_, err = b.Put(ctx, "probe/t1/x", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), object.PutOptions{})
	require.ErrorIs(t, err, broken)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = b.Put(gone, "probe/t1/x", bytes.NewReader(data), object.PutOptions{})
	require.ErrorIs(t, err, context.Canceled)
	all, err := b.List(ctx, "", "", 0)
	require.NoError(t, err)
	require.Empty(t, all, "failed puts leave nothing")
}

func ifAbsent(t *testing.T, b object.Bucket, _ func() object.Bucket) {
	data := Bytes(100_000)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = b.Put(t.Context(), "blob/t1/ab/cd", bytes.NewReader(data), object.PutOptions{IfAbsent: true, SHA256: sum(data)})
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.True(t, bytes.Equal(data, read(t, b, "blob/t1/ab/cd", 0, -1)))
	unread := iotest.ErrReader(errors.New("was read"))
	info, err := b.Put(t.Context(), "blob/t1/ab/cd", unread, object.PutOptions{IfAbsent: true, Size: int64(len(data)), SHA256: sum(data)})
	require.NoError(t, err, "with a size announced, nothing is read")
	require.Equal(t, sum(data), info.SHA256)
	_, err = b.Put(t.Context(), "blob/t1/ab/cd", strings.NewReader("other"), object.PutOptions{IfAbsent: true})
	require.ErrorIs(t, err, object.ErrExists)
}

func replace(t *testing.T, b object.Bucket, _ func() object.Bucket) {
	old, fresh := Bytes(3<<20), Bytes(2<<20)
	put(t, b, "probe/t1/r", old)
	r, _, err := b.Get(t.Context(), "probe/t1/r", 0, -1)
	require.NoError(t, err)
	head := make([]byte, 1000)
	_, err = io.ReadFull(r, head)
	require.NoError(t, err)
	put(t, b, "probe/t1/r", fresh)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(old, append(head, rest...)), "a reader keeps what it began")
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(fresh, read(t, b, "probe/t1/r", 0, -1)))
}

func keys(t *testing.T, b object.Bucket, _ func() object.Bucket) {
	ctx := t.Context()
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", "..", "../x", "a/../b", "a/./b", ".tmp/x", "a/.b", "A", "a b", "ä", "a\x00b", "a\\b", strings.Repeat("a/", 256) + "a", strings.Repeat("a", 256)} {
		_, err := b.Put(ctx, bad, strings.NewReader("x"), object.PutOptions{})
		require.ErrorIs(t, err, object.ErrBadKey, "%q", bad)
		_, _, err = b.Get(ctx, bad, 0, -1)
		require.ErrorIs(t, err, object.ErrBadKey, "%q", bad)
		_, err = b.Stat(ctx, bad)
		require.ErrorIs(t, err, object.ErrBadKey, "%q", bad)
		require.ErrorIs(t, b.Delete(ctx, bad), object.ErrBadKey, "%q", bad)
		_, err = b.Move(ctx, "a/b", bad)
		require.ErrorIs(t, err, object.ErrBadKey, "%q", bad)
		_, err = b.Begin(ctx, bad, object.PutOptions{})
		require.ErrorIs(t, err, object.ErrBadKey, "%q", bad)
	}
	put(t, b, "a/b/c", []byte("x"))
	_, err := b.Put(ctx, "a/b/c/d", strings.NewReader("x"), object.PutOptions{})
	require.Error(t, err, "an object is no folder")
	put(t, b, "0-9.a_z", []byte("y"))
}

func list(t *testing.T, b object.Bucket, _ func() object.Bucket) {
	have := []string{"l/t1/a-b", "l/t1/a.b", "l/t1/a/b", "l/t1/a/c/d", "l/t1/a0", "l/t1/b", "l/t2/a", "m"} // a file system cannot hold a and a/b at once: no l/t1/a
	for i := range have {
		k := have[(i*5)%len(have)]
		put(t, b, k, []byte(k))
	}
	page := func(prefix string, n int) (got []string) {
		for after := ""; ; {
			l, err := b.List(t.Context(), prefix, after, n)
			require.NoError(t, err)
			for _, i := range l {
				got = append(got, i.Key)
				require.EqualValues(t, len(i.Key), i.Size)
				after = i.Key
			}
			if len(l) < n {
				return got
			}
		}
	}
	for _, n := range []int{1, 2, 1000} {
		require.Equal(t, have, page("", n), "%d a page", n)
		require.Equal(t, []string{"l/t1/a/b", "l/t1/a/c/d"}, page("l/t1/a/", n))
		require.Equal(t, []string{"l/t1/a-b", "l/t1/a.b", "l/t1/a/b", "l/t1/a/c/d", "l/t1/a0"}, page("l/t1/a", n))
		require.Empty(t, page("l/t3", n))
	}
}

func move(t *testing.T, b object.Bucket, _ func() object.Bucket) {
	ctx := t.Context()
	put(t, b, "up/t1/1", []byte("data"))
	for range 2 {
		info, err := b.Move(ctx, "up/t1/1", "blob/t1/x/y")
		require.NoError(t, err)
		require.Equal(t, "blob/t1/x/y", info.Key)
		require.EqualValues(t, 4, info.Size)
	}
	put(t, b, "up/t1/2", []byte("data"))
	_, err := b.Move(ctx, "up/t1/2", "blob/t1/x/y")
	require.NoError(t, err)
	_, err = b.Stat(ctx, "up/t1/2")
	require.ErrorIs(t, err, object.ErrNotFound)
	put(t, b, "up/t1/3", []byte("other data"))
	_, err = b.Move(ctx, "up/t1/3", "blob/t1/x/y")
	require.ErrorIs(t, err, object.ErrExists)
	_, err = b.Move(ctx, "up/t1/none", "blob/t1/none")
	require.ErrorIs(t, err, object.ErrNotFound)
}

func multipart(t *testing.T, b object.Bucket, reopen func() object.Bucket) {
	ctx := t.Context()
	data := Bytes(3<<20 + 17)
	o := object.PutOptions{Size: int64(len(data)), SHA256: sum(data)}
	u, err := b.Begin(ctx, "probe/t1/parts", o)
	require.NoError(t, err)
	const size = 1 << 20
	send := func(u object.Upload, no int) {
		piece := data[(no-1)*size : min(len(data), no*size)]
		p, err := u.Part(ctx, no, bytes.NewReader(piece), int64(len(piece)))
		require.NoError(t, err)
		require.Equal(t, object.Part{No: no, Size: int64(len(piece))}, p)
	}
	send(u, 3)
	send(u, 1)
	_, err = u.Part(ctx, 2, strings.NewReader("short"), 10)
	require.ErrorIs(t, err, object.ErrSize)
	u, err = reopen().Resume(ctx, "probe/t1/parts", u.ID(), o)
	require.NoError(t, err)
	have, err := u.Parts(ctx)
	require.NoError(t, err)
	require.Equal(t, []object.Part{{No: 1, Size: size}, {No: 3, Size: size}}, have)
	var wg sync.WaitGroup
	for _, no := range []int{2, 4} {
		wg.Go(func() { send(u, no) })
	}
	wg.Wait()
	have, err = u.Parts(ctx)
	require.NoError(t, err)
	_, err = u.Complete(ctx, have[:3])
	require.ErrorIs(t, err, object.ErrSize)
	info, err := u.Complete(ctx, have)
	require.NoError(t, err)
	require.Equal(t, sum(data), info.SHA256)
	require.True(t, bytes.Equal(data, read(t, b, "probe/t1/parts", 0, -1)))
	_, err = b.Resume(ctx, "probe/t1/parts", u.ID(), o)
	require.ErrorIs(t, err, object.ErrNoUpload)
	_, err = b.Resume(ctx, "probe/t1/parts", "../x", o)
	require.ErrorIs(t, err, object.ErrNoUpload)
	require.NoError(t, u.Abort(ctx))
}

func appends(t *testing.T, b object.Bucket, reopen func() object.Bucket) {
	a, ok := b.(object.Appender)
	if !ok {
		t.Skip("this bucket does not append")
	}
	ctx := t.Context()
	data := Bytes(300_000)
	var told []int64
	note := func(n int64) error { told = append(told, n); return nil }
	n, err := a.Append(ctx, "upl_1", 0, bytes.NewReader(data[:100_000]), note)
	require.NoError(t, err)
	require.EqualValues(t, 100_000, n)
	cut := errors.New("cut")
	n, err = a.Append(ctx, "upl_1", n, io.MultiReader(bytes.NewReader(data[100_000:150_000]), iotest.ErrReader(cut)), note)
	require.ErrorIs(t, err, cut)
	require.EqualValues(t, 150_000, n, "what came before the cut counts")
	require.Equal(t, []int64{100_000, 150_000}, told)
	a, _ = reopen().(object.Appender)
	_, err = a.Append(ctx, "upl_1", 150_001, strings.NewReader("x"), nil)
	require.ErrorIs(t, err, object.ErrOffset)
	n, err = a.Append(ctx, "upl_1", 120_000, bytes.NewReader(data[120_000:]), nil)
	require.NoError(t, err)
	require.EqualValues(t, len(data), n)
	r, err := a.Read(ctx, "upl_1", 1000)
	require.NoError(t, err)
	head, err := io.ReadAll(r)
	require.NoError(t, errors.Join(err, r.Close()))
	require.True(t, bytes.Equal(data[:1000], head))
	_, err = a.Finish(ctx, "upl_1", "upload/t1/upl_1", object.PutOptions{Size: int64(len(data)) + 1})
	require.ErrorIs(t, err, object.ErrSize)
	for range 2 {
		info, err := a.Finish(ctx, "upl_1", "upload/t1/upl_1", object.PutOptions{Size: int64(len(data)), SHA256: sum(data)})
		require.NoError(t, err)
		require.EqualValues(t, len(data), info.Size)
	}
	require.True(t, bytes.Equal(data, read(t, b, "upload/t1/upl_1", 0, -1)))
	_, err = a.Finish(ctx, "upl_2", "upload/t1/upl_2", object.PutOptions{Size: 1})
	require.ErrorIs(t, err, object.ErrNoUpload)
	_, err = a.Append(ctx, "../x", 0, strings.NewReader("x"), nil)
	require.ErrorIs(t, err, object.ErrNoUpload)
	require.NoError(t, a.Discard(ctx, "upl_1"))
}
