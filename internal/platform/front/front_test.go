package front

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is how long a test waits for what must come.
const long = 30 * time.Second

// running is a server with both loops.
type running struct {
	addr   string
	hot    *Server
	stop   func(time.Duration) error
	served func() (loop, std int)
}

// start serves h: paths below /hot by the loop where it can.
func start(t testing.TB, h http.HandlerFunc) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	loop, std := 0, 0
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if _, ok := r.Context().(*Life); ok {
			loop++
		} else {
			std++
		}
		mu.Unlock()
		h(w, r)
	})
	s := New(Options{Handler: counted, Hot: func(p string) bool { return strings.HasPrefix(p, "/hot") }, Log: slog.New(slog.DiscardHandler), Base: context.WithValue(t.Context(), baseKey{}, "base"), Head: 2 * time.Second})
	hs := &http.Server{Handler: counted, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: 2 * time.Second}
	done := make(chan error, 1)
	rest := s.Listen(l)
	go func() { done <- hs.Serve(rest) }()
	r := &running{addr: l.Addr().String(), hot: s, served: func() (int, int) { mu.Lock(); defer mu.Unlock(); return loop, std }}
	once := sync.Once{}
	r.stop = func(d time.Duration) (err error) {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), d)
			defer cancel()
			both := make(chan error, 1)
			go func() { both <- s.Shutdown(ctx) }()
			err = errors.Join(hs.Shutdown(ctx), <-both)
			_ = hs.Close()
			<-done
		})
		return err
	}
	t.Cleanup(func() { _ = r.stop(time.Second) })
	return r
}

type baseKey struct{}

// echo answers in the ways that handlers do.
func echo(w http.ResponseWriter, r *http.Request) {
	in, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h := w.Header()
	h.Set("X-Seen", fmt.Sprintf("%s %s?%s host=%s n=%d a=%q multi=%q", r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.ContentLength, r.Header.Get("X-A"), r.Header.Values("X-Multi")))
	switch strings.TrimPrefix(r.URL.Path, "/hot") {
	case "/length":
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(in)))
		_, _ = w.Write(in)
	case "/small":
		h.Set("X-Bad", "a\r\nX-Injected: 1")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(in)
	case "/large":
		for range 100 {
			_, _ = w.Write(in)
		}
	case "/stream":
		h.Set("Content-Type", "text/event-stream")
		for i := range 5 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	case "/none":
		w.WriteHeader(http.StatusNoContent)
	case "/close":
		h.Set("Connection", "close")
		_, _ = w.Write([]byte("bye"))
	case "/sniff":
		_, _ = w.Write([]byte("<html>"))
	case "/panic":
		panic(http.ErrAbortHandler)
	case "/context":
		_, isLife := r.Context().(*Life)
		fmt.Fprint(w, isLife, r.Context().Value(baseKey{}), r.Context().Err())
	}
}

// exchange sends raw bytes on one connection and reads what comes back until it is closed or n answers are read.
func exchange(t *testing.T, addr, raw string, n int, method string) []string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(long))
	_, err = io.WriteString(c, raw)
	require.NoError(t, err)
	br := bufio.NewReader(c)
	var all []string
	for range n {
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			all = append(all, "error")
			break
		}
		b, err := io.ReadAll(res.Body)
		if errors.Is(err, syscall.ECONNRESET) {
			err = syscall.ECONNRESET // without the ports
		}
		res.Header.Del("Date")
		var fields bytes.Buffer
		_ = res.Header.Write(&fields)
		all = append(all, fmt.Sprint(res.StatusCode, res.ContentLength, res.TransferEncoding, res.Close, err, "\n", fields.String(), len(b), string(b[:min(len(b), 200)])))
	}
	return all
}

// What the loop serves, and what it gives away, looks like net/http's own answer.
func TestAnswersLikeNetHTTP(t *testing.T) {
	t.Parallel()
	r := start(t, echo)
	big := strings.Repeat("0123456789", 3000)
	post := func(path, body, more string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s", path, len(body), more, body)
	}
	for _, c := range []struct {
		name, raw string // @ stands for /hot/
		n         int
		loop      bool
		method    string
	}{
		{"length", post("@length", "hello", ""), 1, true, "POST"},
		{"length of nothing", post("@length", "", ""), 1, true, "POST"},
		{"body of many reads", post("@length", big, ""), 1, true, "POST"},
		{"small answer gets a length", post("@small", "abc", ""), 1, true, "POST"},
		{"large answer in chunks", post("@large", "0123456789", ""), 1, true, "POST"},
		{"larger answer in chunks", post("@large", big, ""), 1, true, "POST"},
		{"events", post("@stream", "{}", ""), 1, true, "POST"},
		{"no content", post("@none", "{}", ""), 1, true, "POST"},
		{"handler closes", post("@close", "{}", ""), 2, true, "POST"},
		{"client closes", post("@length", "hi", "Connection: close\r\n"), 2, true, "POST"},
		{"sniffed", post("@sniff", "x", ""), 1, true, "POST"},
		{"fields", post("@length?a=b&c=%20d", "hi", "x-a:  two words \r\nX-Multi: 1\r\nx-multi: 2\r\n"), 1, true, "POST"},
		{"two behind each other", post("@length", "one", "") + post("@small", "two", ""), 2, true, "POST"},
		{"get", "GET @length HTTP/1.1\r\nHost: x\r\n\r\n", 1, true, "GET"},
		{"head", "HEAD @large HTTP/1.1\r\nHost: x\r\n\r\nHEAD @small HTTP/1.1\r\nHost: x\r\n\r\n", 2, true, "HEAD"},
		{"aborted", post("@panic", "x", ""), 1, true, "POST"},
		{"chunked body", "POST @length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 1, false, "POST"},
		{"plain, then chunked", post("@length", "one", "") + "POST @length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + post("@length", "three", ""), 3, true, "POST"},
		{"two lengths", "POST @length HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 1, false, "POST"},
		{"length and chunks", "POST @length HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1, false, "POST"},
		{"no host", "POST @length HTTP/1.1\r\nContent-Length: 1\r\n\r\na", 1, false, "POST"},
		{"two hosts", "GET @length HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 1, false, "GET"},
		{"old version", "GET @length HTTP/1.0\r\nHost: x\r\n\r\n", 2, false, "GET"},
		{"bad method", "FOO /hot HTTP/1.1\r\nHost: x\r\n\r\n", 1, false, "FOO"},
		{"folded", "GET @length HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n 2\r\n\r\n", 1, false, "GET"},
		{"space before colon", "GET @length HTTP/1.1\r\nHost: x\r\nX-A : 1\r\n\r\n", 1, false, "GET"},
		{"control in value", "GET @length HTTP/1.1\r\nHost: x\r\nX-A: a\x01b\r\n\r\n", 1, false, "GET"},
		{"escaped path", "GET @%6cength HTTP/1.1\r\nHost: x\r\n\r\n", 1, false, "GET"},
		{"rubbish", "\x16\x03\x01\x02\x00\x01\x00", 1, false, "GET"},
		{"large head", "GET @length HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", 1, false, "GET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := r.served()
			raw := strings.ReplaceAll(c.raw, "@", "/hot/")
			got := exchange(t, r.addr, raw, c.n, c.method)
			after, _ := r.served()
			require.Equal(t, c.loop, after > before, "served by the loop")
			want := exchangeStd(t, raw, c.n, c.method)
			require.Equal(t, want, got)
		})
	}
}

// exchangeStd is exchange with net/http alone.
func exchangeStd(t *testing.T, raw string, n int, method string) []string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	hs := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: 2 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = hs.Serve(l) }()
	defer func() { _ = hs.Close(); <-done }()
	return exchange(t, l.Addr().String(), raw, n, method)
}

func TestBytesOneByOne(t *testing.T) {
	t.Parallel()
	r := start(t, echo)
	c, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(long))
	br := bufio.NewReader(c)
	for range 2 {
		for _, b := range []byte("POST /hot/length HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello") {
			_, err := c.Write([]byte{b})
			require.NoError(t, err)
		}
		res, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
	}
	loop, std := r.served()
	require.Equal(t, 2, loop)
	require.Zero(t, std)
}

// A running request learns that its client has gone, whatever its handler waits for.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprint("half=", half), func(t *testing.T) {
			t.Parallel()
			began, left := make(chan struct{}), make(chan string, 3)
			r := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				after := make(chan struct{})
				context.AfterFunc(r.Context(), func() { left <- "after"; close(after) })
				child, cancel := context.WithTimeout(context.WithValue(r.Context(), baseKey{}, 1), time.Hour)
				defer cancel()
				_ = http.NewResponseController(w).Flush()
				close(began)
				<-child.Done()
				left <- "child"
				<-r.Context().Done()
				left <- r.Context().Err().Error()
				<-after // it is not run any more once we have returned
			})
			c, err := net.Dial("tcp", r.addr)
			require.NoError(t, err)
			_, err = io.WriteString(c, "POST /hot HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
			require.NoError(t, err)
			<-began
			if half {
				require.NoError(t, c.(*net.TCPConn).CloseWrite())
				defer func() { _ = c.Close() }()
			} else {
				require.NoError(t, c.Close())
			}
			got := map[string]bool{}
			for range 3 {
				select {
				case s := <-left:
					got[s] = true
				case <-time.After(long):
					t.Fatal("nobody noticed; so far ", got)
				}
			}
			require.Equal(t, map[string]bool{"after": true, "child": true, context.Canceled.Error(): true}, got)
		})
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}), make(chan struct{})
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if r.URL.Path == "/hot/slow" {
			close(began)
			<-release
		}
		_, _ = w.Write([]byte("done"))
	})
	idle, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer func() { _ = idle.Close() }()
	fresh, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer func() { _ = fresh.Close() }()
	for _, c := range []net.Conn{idle, fresh} {
		_ = c.SetDeadline(time.Now().Add(long))
	}
	_, _ = io.WriteString(idle, "GET /hot HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(idle), nil)
	require.NoError(t, err)
	_, _ = io.ReadAll(res.Body)
	busy, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	_, _ = io.WriteString(busy, "GET /hot/slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop(long) }()
	_, err = idle.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	_, err = fresh.Read(make([]byte, 1))
	require.Error(t, err)
	close(release)
	res, err = http.ReadResponse(bufio.NewReader(busy), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "done", string(b))
	require.True(t, res.Close)
	require.NoError(t, <-stopped)
}

// A client that takes nothing is let go at the handler's deadline, also when an older one has passed meanwhile.
func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		piece := bytes.Repeat([]byte("x"), 1<<20)
		for {
			_ = rc.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := w.Write(piece); err != nil {
				failed <- err
				return
			}
		}
	})
	c, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "GET /hot HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-failed:
		var ne net.Error
		require.ErrorAs(t, err, &ne)
		require.True(t, ne.Timeout())
	case <-time.After(long):
		t.Fatal("the write still waits")
	}
}

func TestSlowHeadsAndBodiesAreCut(t *testing.T) {
	t.Parallel()
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := io.ReadAll(r.Body); err != nil {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusRequestTimeout)
		}
	})
	for _, raw := range []string{"", "POST /hot HTTP/1.1\r\nHos", "POST /hot HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"} {
		c, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		_ = c.SetDeadline(time.Now().Add(long))
		_, _ = io.WriteString(c, raw)
		b, _ := io.ReadAll(c)
		require.Equal(t, strings.Contains(raw, "abc"), strings.HasPrefix(string(b), "HTTP/1.1 408 "), "%q", b)
		_ = c.Close()
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, echo)
	tr := &http.Transport{MaxIdleConnsPerHost: 20}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: long}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for i := range 50 {
				n := (i * 997) % 40_000
				in := make([]byte, n)
				_, _ = rand.Read(in)
				path := []string{"/hot/length", "/hot/small", "/hot/large", "/other/length"}[i%4]
				res, err := client.Post("http://"+r.addr+path, "application/octet-stream", bytes.NewReader(in))
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				want := in
				switch path {
				case "/hot/large":
					want = bytes.Repeat(in, 100)
				case "/other/length":
					want = nil
				}
				if err != nil || !bytes.Equal(b, want) {
					t.Errorf("%s with %d bytes: %d bytes, %v", path, n, len(b), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// What the loop takes for a plain request is one to net/http, with the same meaning.
func FuzzHead(f *testing.F) {
	f.Add([]byte("POST /v1/chat/completions HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 12\r\nauthorization: Bearer x\r\nX: 1\r\nx: 2\r\n\r\n"))
	f.Add([]byte("GET /v1/models?a=b HTTP/1.1\r\nhost: [::1]\r\nConnection: keep-alive\r\n\r\n"))
	f.Add([]byte("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: a=b; c=d\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := wholeHead(b)
		if n == 0 || n > maxHead {
			return
		}
		var h head
		in := http.Header{}
		if _, ok := parseHead(string(b[:n]), &h, in, nil); !ok {
			return
		}
		if !mayServe(b) {
			t.Fatalf("%q would have been given away before its end", b)
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:n])))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b[:n], err)
		}
		if r.Method != h.method || r.URL.Path != h.path || r.URL.RawQuery != h.query || r.RequestURI != h.target || r.Host != h.host || r.ContentLength != h.length || r.Close != h.close || len(r.TransferEncoding) > 0 {
			t.Fatalf("%q: %+v, net/http says %+v", b[:n], h, r)
		}
		got, want := bytes.Buffer{}, bytes.Buffer{}
		in.Del("Connection")
		r.Header.Del("Connection")
		_ = in.Write(&got)
		_ = r.Header.Write(&want)
		if got.String() != want.String() {
			t.Fatalf("%q: fields %q, net/http says %q", b[:n], got.String(), want.String())
		}
	})
}

// BenchmarkRequest is one request of 1 KB on a kept connection, client included.
func BenchmarkRequest(b *testing.B) {
	for _, path := range []string{"/hot/length", "/cold"} {
		b.Run(strings.TrimPrefix(path, "/"), func(b *testing.B) {
			r := start(b, func(w http.ResponseWriter, r *http.Request) {
				var buf [2048]byte
				n, _ := io.ReadFull(r.Body, buf[:r.ContentLength])
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", strconv.Itoa(n))
				_, _ = w.Write(buf[:n])
			})
			c, err := net.Dial("tcp", r.addr)
			require.NoError(b, err)
			defer func() { _ = c.Close() }()
			raw := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1024\r\nAuthorization: Bearer abc\r\nContent-Type: application/json\r\nAccept: */*\r\nUser-Agent: x\r\n\r\n%s", path, strings.Repeat("x", 1024))
			in := make([]byte, 8<<10)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Write(raw)
				for got := 0; got < 1024; {
					n, err := c.Read(in)
					if err != nil {
						b.Fatal(err)
					}
					got += n
				}
			}
		})
	}
}
