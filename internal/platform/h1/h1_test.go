package h1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// body reads an answer to its end.
func body(a *Response) ([]byte, error) {
	var b []byte
	for {
		p, _, err := a.Next(5 * time.Second)
		b = append(b, p...)
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func addressOf(url string) Address {
	return Address{Network: "tcp", Addr: strings.TrimPrefix(strings.TrimPrefix(url, "http://"), "https://")}
}

func get(t *testing.T, p *Pool, q *Request) (int, string) {
	t.Helper()
	a, err := p.Do(t.Context(), q)
	require.NoError(t, err)
	defer a.Close()
	b, err := body(a)
	require.NoError(t, err)
	return a.Status, string(b)
}

func TestAgainstNetHTTP(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/length":
			_, _ = w.Write(in)
		case "/chunked":
			for i := range 300 {
				fmt.Fprintf(w, "piece %d;", i)
				if i%7 == 0 {
					w.(http.Flusher).Flush()
				}
			}
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "with trailer")
			w.Header().Set("X-Sum", "1")
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "after hints")
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/close":
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "bye")
		case "/headers":
			fmt.Fprintf(w, "%s|%s|%s|%s|%s", r.Header.Get("Authorization"), r.Header.Get("X-Request-Id"), r.Host, r.Header.Get("Content-Type"), r.Header.Get("Accept-Encoding"))
		}
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	p := NewPool(Options{})
	defer p.Close()
	q := func(path string, body ...[]byte) *Request {
		return &Request{Address: addressOf(s.URL), Method: "POST", Path: path, Host: "engine", Auth: "Bearer x", RequestID: "req_1", Type: "application/json", Body: body}
	}
	big := bytes.Repeat([]byte("0123456789"), 50_000)
	for range 3 {
		_, got := get(t, p, q("/length", []byte("a"), []byte("bc")))
		require.Equal(t, "abc", got)
		_, got = get(t, p, q("/length", big, []byte("end")))
		require.Equal(t, string(big)+"end", got)
		_, got = get(t, p, q("/chunked"))
		require.True(t, strings.HasPrefix(got, "piece 0;piece 1;") && strings.HasSuffix(got, "piece 299;"))
		_, got = get(t, p, q("/trailer"))
		require.Equal(t, "with trailer", got)
		_, got = get(t, p, q("/hints"))
		require.Equal(t, "after hints", got)
		status, got := get(t, p, q("/empty"))
		require.Equal(t, 204, status)
		require.Empty(t, got)
		_, got = get(t, p, q("/headers"))
		require.Equal(t, "Bearer x|req_1|engine|application/json|identity", got)
	}
	require.Equal(t, int64(1), conns.Load(), "one connection carried all")
	_, got := get(t, p, q("/close"))
	require.Equal(t, "bye", got)
	_, _ = get(t, p, q("/empty"))
	require.Equal(t, int64(2), conns.Load())
}

func TestTLSAndUnixSockets(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	s := httptest.NewTLSServer(h)
	defer s.Close()
	p := NewPool(Options{TLS: &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}})
	defer p.Close()
	a := addressOf(s.URL)
	a.TLS, a.Name = true, "example.com"
	for range 2 {
		_, got := get(t, p, &Request{Address: a, Method: "GET", Path: "/", Host: "example.com"})
		require.Equal(t, "hello", got)
	}
	a.Name = "other.example.org"
	_, err := p.Do(t.Context(), &Request{Address: a, Method: "GET", Path: "/", Host: "x"})
	require.ErrorIs(t, err, ErrConnect)

	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	u := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = u.Serve(l) }()
	defer func() { _ = u.Close() }()
	_, got := get(t, p, &Request{Address: Address{Network: "unix", Addr: path}, Method: "GET", Path: "/", Host: "x"})
	require.Equal(t, "hello", got)
	_, err = p.Do(t.Context(), &Request{Address: Address{Network: "unix", Addr: path + "no"}, Method: "GET", Path: "/", Host: "x"})
	require.ErrorIs(t, err, ErrConnect)
	_, err = p.Do(t.Context(), &Request{Address: a, Method: "GET", Path: "/\r\nX: y", Host: "x"})
	require.Error(t, err)
}

// raw serves each connection with f and returns the address.
func raw(t *testing.T, f func(c net.Conn, n int)) Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c, n)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return Address{Network: "tcp", Addr: l.Addr().String()}
}

func readRequest(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) }

func TestStrict(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		want   error
		body   string
	}{
		"plain":            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", nil, "ok"},
		"close delimited":  {"HTTP/1.1 200 OK\r\n\r\nto the end", nil, "to the end"},
		"http/1.0":         {"HTTP/1.0 200 OK\r\n\r\nold", nil, "old"},
		"chunk extension":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: y\r\n\r\n", nil, "ok"},
		"bare lf":          {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", ErrProtocol, ""},
		"two lengths":      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", ErrProtocol, ""},
		"length and chunk": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ErrProtocol, ""},
		"gzip coding":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ErrProtocol, ""},
		"encoded":          {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", ErrProtocol, ""},
		"folded":           {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ErrProtocol, ""},
		"nul":              {"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", ErrProtocol, ""},
		"bad chunk":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", ErrProtocol, ""},
		"chunk too long":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n", ErrProtocol, "o"},
		"negative length":  {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ErrProtocol, ""},
		"no http":          {"SSH-2.0-OpenSSH\r\n\r\n", ErrProtocol, ""},
		"switch":           {"HTTP/1.1 101 X\r\n\r\n", ErrProtocol, ""},
		"interim flood":    {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 7), ErrProtocol, ""},
		"huge head":        {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 40<<10), ErrProtocol, ""},
		"many fields":      {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", ErrProtocol, ""},
		"half head":        {"HTTP/1.1 200 OK\r\nA: b", ErrBroken, ""},
		"half body":        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", ErrBroken, "ok"},
		"half chunk":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", ErrBroken, "ok"},
		"no last chunk":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", ErrBroken, "ok"},
		"nothing":          {"", ErrBroken, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, slow := range []bool{false, true} {
				a := raw(t, func(c net.Conn, _ int) {
					readRequest(c)
					if !slow {
						_, _ = io.WriteString(c, tc.answer)
						return
					}
					for i := 0; i < len(tc.answer) && i < 2000; i++ { // one byte a write
						_, _ = io.WriteString(c, tc.answer[i:i+1])
					}
					if len(tc.answer) > 2000 {
						_, _ = io.WriteString(c, tc.answer[2000:])
					}
				})
				p := NewPool(Options{})
				got, err := "", error(nil)
				r, err := p.Do(t.Context(), &Request{Address: a, Method: "GET", Path: "/", Host: "x"})
				if err == nil {
					var b []byte
					b, err = body(r)
					got = string(b)
					r.Close()
				}
				p.Close()
				if tc.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, tc.want)
				}
				require.Equal(t, tc.body, got)
			}
		})
	}
}

func TestStaleConnectionIsReplacedUnseen(t *testing.T) {
	t.Parallel()
	a := raw(t, func(c net.Conn, n int) {
		readRequest(c)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n) // keeps the connection in words, closes it in fact
	})
	p := NewPool(Options{})
	defer p.Close()
	q := &Request{Address: a, Method: "GET", Path: "/", Host: "x"}
	_, got := get(t, p, q)
	require.Equal(t, "0", got)
	_, got = get(t, p, q)
	require.Equal(t, "1", got)
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	a := raw(t, func(c net.Conn, n int) {
		readRequest(c)
		if n == 1 {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		}
		<-release
		_, _ = io.WriteString(c, "2\r\nok\r\n0\r\n\r\n")
	})
	p := NewPool(Options{})
	defer p.Close()
	q := &Request{Address: a, Method: "GET", Path: "/", Host: "x", First: 30 * time.Millisecond}
	_, err := p.Do(t.Context(), q)
	require.ErrorIs(t, err, ErrTimeout)
	go func() { release <- struct{}{} }()
	r, err := p.Do(t.Context(), &Request{Address: a, Method: "GET", Path: "/", Host: "x"})
	require.NoError(t, err)
	defer r.Close()
	_, _, err = r.Next(20 * time.Millisecond)
	require.ErrorIs(t, err, ErrTimeout)
	close(release)
	b, err := body(r)
	require.NoError(t, err)
	require.Equal(t, "ok", string(b))
}

func TestContextEndsTheWaitForTheHead(t *testing.T) {
	t.Parallel()
	got := make(chan struct{})
	a := raw(t, func(c net.Conn, _ int) { readRequest(c); close(got); _, _ = c.Read(make([]byte, 1)) })
	p := NewPool(Options{})
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-got; cancel() }()
	_, err := p.Do(ctx, &Request{Address: a, Method: "GET", Path: "/", Host: "x"})
	require.ErrorIs(t, err, context.Canceled)
}

// After Cancel the server of net/http sees its client gone and stops; what it wrote until then is read to the end, so that counts agree.
func TestCancelReadsWhatTheServerWrote(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"call", "context"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			testCancel(t, by == "context")
		})
	}
}

func testCancel(t *testing.T, byContext bool) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var wrote atomic.Int64
	finished := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(finished)
		_, _ = io.ReadAll(r.Body)
		for i := 0; r.Context().Err() == nil; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			wrote.Add(1)
			select {
			case <-r.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}
		fmt.Fprint(w, "data: usage\n\n")
	}))
	defer s.Close()
	p := NewPool(Options{})
	defer p.Close()
	r, err := p.Do(ctx, &Request{Address: addressOf(s.URL), Method: "POST", Path: "/", Host: "x", Body: [][]byte{[]byte("{}")}})
	require.NoError(t, err)
	defer r.Close()
	var b []byte
	for len(b) < 200 {
		piece, _, err := r.Next(time.Second)
		require.NoError(t, err)
		b = append(b, piece...)
	}
	if byContext {
		leave()
	} else {
		r.Cancel()
	}
	rest, err := body(r)
	require.NoError(t, err)
	<-finished
	b = append(b, rest...)
	require.Equal(t, int(wrote.Load())+1, bytes.Count(b, []byte("data: ")))
	require.True(t, bytes.HasSuffix(b, []byte("data: usage\n\n")))
}

func FuzzHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA:b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			return
		}
		b = b[:i+4]
		var h head
		if parseHead(b, &h) != nil {
			return
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: "GET"})
		if err != nil {
			t.Fatalf("accepted what net/http refuses: %q: %v", b, err)
		}
		defer func() { _ = r.Body.Close() }()
		if r.StatusCode != h.status {
			t.Fatalf("status %d, net/http says %d", h.status, r.StatusCode)
		}
		if h.status >= 200 && h.status != 204 && h.status != 304 && h.length >= 0 && r.ContentLength != h.length {
			t.Fatalf("length %d, net/http says %d in %q", h.length, r.ContentLength, b)
		}
	})
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("2\r\nok\r\n0\r\n\r\n"), 3)
	f.Add([]byte("2;x=y\r\nok\r\n0\r\nA: b\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if len(b) > 8<<10 {
			return
		}
		parse := func(cut int) ([]byte, error) {
			a, z := net.Pipe()
			go func() {
				defer func() { _ = z.Close() }()
				for rest := b; len(rest) > 0; {
					n := len(rest)
					if cut > 0 && cut < n {
						n = cut
					}
					if _, err := z.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			defer func() { _ = a.Close() }()
			r := &Response{c: &conn{nc: a, buf: make([]byte, readBuffer)}, state: chunkHead, h: head{chunked: true}}
			return body(r)
		}
		whole, err1 := parse(0)
		pieces, err2 := parse(cut)
		if !bytes.Equal(whole, pieces) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("cut at %d: %q %v, whole: %q %v", cut, pieces, err2, whole, err1)
		}
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"choices":[]}`)
	}))
	defer s.Close()
	data := bytes.Repeat([]byte("x"), 1200)
	b.Run("h1", func(b *testing.B) {
		p := NewPool(Options{})
		defer p.Close()
		q := &Request{Address: addressOf(s.URL), Method: "POST", Path: "/", Host: "x", Body: [][]byte{data}}
		b.ReportAllocs()
		for b.Loop() {
			a, err := p.Do(context.Background(), q)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := body(a); err != nil {
				b.Fatal(err)
			}
			a.Close()
		}
	})
	b.Run("net-http", func(b *testing.B) {
		c := s.Client()
		b.ReportAllocs()
		for b.Loop() {
			a, err := c.Post(s.URL, "application/json", bytes.NewReader(data))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, a.Body)
			_ = a.Body.Close()
		}
	})
}

// Bytes behind an answer, however soon after it, never reach the next caller: the connection is given up.
func TestBytesBehindAnAnswerAreNobodys(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	sent := make(chan struct{}, 16)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = nc.Close() }()
				r := bufio.NewReader(nc)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
					<-sent // the answer was read and its connection is idle again
					_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers")
					sent <- struct{}{}
				}
			}()
		}
	}()
	p := NewPool(Options{})
	t.Cleanup(p.Close)
	for range 5 {
		a, err := p.Do(t.Context(), &Request{Address: Address{Network: "tcp", Addr: l.Addr().String()}, Method: http.MethodPost, Path: "/", Host: "x", Body: [][]byte{[]byte("{}")}})
		require.NoError(t, err)
		var body []byte
		for {
			piece, _, err := a.Next(time.Minute)
			body = append(body, piece...)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
		}
		a.Close()
		require.Equal(t, "mine", string(body))
		sent <- struct{}{}
		<-sent                              // the bytes are on their way
		require.Eventually(t, func() bool { // and have arrived
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, list := range p.idle {
				return !list[0].quiet()
			}
			return false
		}, 30*time.Second, time.Millisecond)
	}
}
