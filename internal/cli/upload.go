package cli

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/fault"
)

// chunk is the size of one PATCH: an interrupted upload repeats at most this much.
const chunk = 64 << 20

var errOffset = errors.New("the server has another offset")

// upload sends one file by tus 1.0.0, resuming at the server's offset after a cut connection.
type upload struct {
	a     *app
	cl    *client
	file  localFile
	label string
	meta  map[string]string
}

// run returns the id of the finished upload.
func (u upload) run(ctx context.Context) (string, error) {
	f, err := os.Open(u.file.disk)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := u.hash(ctx, f)
	if err != nil {
		return "", err
	}
	u.meta["sha256"] = sum
	location, offset, err := u.create(ctx)
	if err != nil {
		return "", err
	}
	bar := u.a.bar(u.label, u.file.size)
	defer bar.end()
	failures := 0
	for offset < u.file.size {
		bar.set(offset)
		next, err := u.patch(ctx, f, location, offset, bar)
		if err == nil {
			offset, failures = next, 0
			continue
		}
		if kind := fault.KindOf(err); ctx.Err() != nil || kind == fault.Invalid || kind == fault.Forbidden || kind == fault.TooLarge || kind == fault.NotFound {
			return "", err
		}
		if failures++; failures > 8 {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Duration(failures) * 500 * time.Millisecond):
		}
		if offset, err = u.head(ctx, location); err != nil && failures == 8 {
			return "", err
		}
	}
	bar.set(offset)
	return location[strings.LastIndexByte(location, '/')+1:], nil
}

func (u upload) hash(ctx context.Context, f *os.File) (string, error) {
	h := sha256.New()
	bar := u.a.bar("hash "+u.label, u.file.size)
	defer bar.end()
	buf := make([]byte, 1<<20)
	var done int64
	for {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		bar.set(done)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

func (u upload) create(ctx context.Context) (location string, offset int64, err error) {
	var meta []string
	for k, v := range u.meta {
		meta = append(meta, k+" "+base64.StdEncoding.EncodeToString([]byte(v)))
	}
	resp, err := u.cl.send(ctx, http.MethodPost, "/api/v1/uploads", nil, func(h http.Header) {
		h.Set("Tus-Resumable", "1.0.0")
		h.Set("Upload-Length", strconv.FormatInt(u.file.size, 10))
		h.Set("Upload-Metadata", strings.Join(meta, ","))
	})
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	l, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || l.Path == "" {
		return "", 0, ErrAnswer.With("the upload has no address")
	}
	if o := resp.Header.Get("Upload-Offset"); o != "" {
		offset, _ = strconv.ParseInt(o, 10, 64) // absent or odd: begin at 0, the server will say 409
	}
	return l.Path, offset, nil
}

func (u upload) patch(ctx context.Context, f *os.File, location string, offset int64, bar *bar) (int64, error) {
	n := min(chunk, u.file.size-offset)
	body := &counted{r: io.NewSectionReader(f, offset, n), f: func(done int64) { bar.set(offset + done) }}
	resp, err := u.cl.send(ctx, http.MethodPatch, location, body, func(h http.Header) {
		h.Set("Tus-Resumable", "1.0.0")
		h.Set("Upload-Offset", strconv.FormatInt(offset, 10))
		h.Set("Content-Type", "application/offset+octet-stream")
	})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	next, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || next <= offset {
		return 0, errOffset
	}
	return next, nil
}

func (u upload) head(ctx context.Context, location string) (int64, error) {
	resp, err := u.cl.send(ctx, http.MethodHead, location, nil, func(h http.Header) { h.Set("Tus-Resumable", "1.0.0") })
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
}

type counted struct {
	r    io.Reader
	done int64
	f    func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.f(c.done)
	return n, err
}

// bar is a progress line on a terminal; elsewhere it says only that the work has begun.
type bar struct {
	a       *app
	label   string
	total   int64
	live    bool
	started time.Time
	shown   time.Time
}

func (a *app) bar(label string, total int64) *bar {
	b := &bar{a: a, label: label, total: total, started: time.Now()}
	if f, ok := a.err.(*os.File); ok {
		info, err := f.Stat()
		b.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if !b.live {
		a.say("%s (%s)", label, sizeText(total))
	}
	return b
}

func (b *bar) set(done int64) {
	if !b.live || time.Since(b.shown) < 100*time.Millisecond && done < b.total {
		return
	}
	b.shown = time.Now()
	const width = 30
	share := 1.0
	if b.total > 0 {
		share = float64(done) / float64(b.total)
	}
	filled := int(share * width)
	speed := float64(done) / max(time.Since(b.started).Seconds(), 0.001)
	fmt.Fprintf(b.a.err, "\r%s %s%s %3.0f%% %s/s\x1b[K", b.label, strings.Repeat("█", filled), strings.Repeat("░", width-filled), share*100, sizeText(int64(speed)))
}

func (b *bar) end() {
	if b.live {
		b.a.say("")
	}
}
