package console_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"maas/internal/console"
	"maas/web"
)

func built() fstest.MapFS {
	return fstest.MapFS{
		"index.html":         {Data: []byte("placeholder")},
		"console.html":       {Data: []byte("<title>console</title>")},
		"console.html.br":    {Data: []byte("BR")},
		"console.html.gz":    {Data: []byte("GZ")},
		"boot.js":            {Data: []byte("boot()")},
		"assets/a-12.js":     {Data: []byte("aaaaaaaa")},
		"assets/a-12.js.br":  {Data: []byte("BRJS")},
		"assets/x-34.woff2":  {Data: []byte("font")},
		"favicon.svg":        {Data: []byte("<svg/>")},
		"assets/a-12.js.gz":  {Data: []byte("GZJS")},
		"assets/plain-1.css": {Data: []byte("p{}")},
	}
}

func ask(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEncodingsFollowTheQualityValues(t *testing.T) {
	t.Parallel()
	h := console.Handler(built(), console.Options{})
	for _, c := range []struct{ accept, coding, body string }{
		{"", "", "aaaaaaaa"},
		{"gzip, deflate, br", "br", "BRJS"},
		{"gzip;q=1.0, br;q=0.5", "gzip", "GZJS"},
		{"br;q=0, gzip", "gzip", "GZJS"},
		{"br;q=0, gzip;q=0", "", "aaaaaaaa"},
		{"*", "br", "BRJS"},
		{"identity", "", "aaaaaaaa"},
	} {
		w := ask(h, "GET", "/assets/a-12.js", "Accept-Encoding", c.accept)
		require.Equal(t, 200, w.Code, c.accept)
		require.Equal(t, c.coding, w.Header().Get("Content-Encoding"), c.accept)
		require.Equal(t, c.body, w.Body.String(), c.accept)
		require.Equal(t, "Accept-Encoding", w.Header().Get("Vary"))
		require.Equal(t, "text/javascript; charset=utf-8", w.Header().Get("Content-Type"))
	}
	w := ask(h, "GET", "/assets/plain-1.css", "Accept-Encoding", "br")
	require.Empty(t, w.Header().Get("Content-Encoding"), "no twin, no coding")
}

func TestCaching(t *testing.T) {
	t.Parallel()
	h := console.Handler(built(), console.Options{})
	w := ask(h, "GET", "/assets/a-12.js")
	require.Contains(t, w.Header().Get("Cache-Control"), "immutable")
	plain := w.Header().Get("ETag")
	br := ask(h, "GET", "/assets/a-12.js", "Accept-Encoding", "br").Header().Get("ETag")
	require.NotEqual(t, plain, br, "two representations, two strong tags")

	page := ask(h, "GET", "/models", "Accept", "text/html")
	require.Equal(t, "no-cache", page.Header().Get("Cache-Control"))
	again := ask(h, "GET", "/models", "Accept", "text/html", "If-None-Match", `"x", W/`+page.Header().Get("ETag"))
	require.Equal(t, http.StatusNotModified, again.Code)
	require.Empty(t, again.Body.String())
	require.NotEmpty(t, again.Header().Get("Content-Security-Policy"), "a 304 renews the headers of the cached page")
	require.Equal(t, "no-cache", ask(h, "GET", "/boot.js").Header().Get("Cache-Control"))
	head := ask(h, "HEAD", "/boot.js")
	require.Equal(t, "6", head.Header().Get("Content-Length"))
	require.Empty(t, head.Body.String())
}

func TestFallbackIsForPagesOnly(t *testing.T) {
	t.Parallel()
	h := console.Handler(built(), console.Options{Version: "1.2.3"})
	for _, p := range []string{"/", "/models", "/deployments/new", "/models/a/b.gguf", "/usage?bucket=1h"} {
		w := ask(h, "GET", p, "Accept", "text/html,application/xhtml+xml")
		require.Equal(t, 200, w.Code, p)
		require.Equal(t, "<title>console</title>", w.Body.String(), p)
		require.Equal(t, "1.2.3", w.Header().Get("X-Maas-Version"))
	}
	for _, p := range []string{"/api/v1/nope", "/v1/models/x", "/v2/", "/metrics", "/livez", "/readyz", "/hooks/1", "/bots/a", "/mcp", "/embed/x", "/xet/a", "/assets/missing-1.js", "/.well-known/jwks.json", "/assets/../api/x"} {
		require.Equal(t, 404, ask(h, "GET", p, "Accept", "text/html").Code, p)
	}
	require.Equal(t, 404, ask(h, "GET", "/models", "Accept", "application/json").Code)
	require.Equal(t, 404, ask(h, "GET", "/console.html.br", "Accept", "*/*").Code)
	require.Equal(t, 405, ask(h, "POST", "/models", "Accept", "text/html").Code)
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	h := console.Handler(built(), console.Options{ConnectOrigins: []string{"https://store.example"}})
	csp := ask(h, "GET", "/", "Accept", "text/html").Header().Get("Content-Security-Policy")
	require.Contains(t, csp, "script-src 'self';")
	require.Contains(t, csp, "style-src 'self';")
	require.Contains(t, csp, "connect-src 'self' https://store.example;")
	require.Contains(t, csp, "frame-ancestors 'none'")
	require.NotContains(t, csp, "unsafe")
	require.Equal(t, "nosniff", ask(h, "GET", "/boot.js").Header().Get("X-Content-Type-Options"))
}

func TestBrandingAndHosts(t *testing.T) {
	t.Parallel()
	h := console.Handler(built(), console.Options{Hue: 150, Name: "Acme AI", Hosts: []string{"console.acme.example", "[::1]"}})
	get := func(host, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	require.Equal(t, ":root{--brand-h:150}\n", get("Console.Acme.example:8080", "/branding.css").Body.String())
	require.Contains(t, get("console.acme.example", "/manifest.webmanifest").Body.String(), "Acme AI")
	require.Equal(t, "<svg/>", get("console.acme.example.", "/favicon.ico").Body.String())
	require.Equal(t, 200, get("[::1]:8080", "/boot.js").Code)
	require.Equal(t, http.StatusMisdirectedRequest, get("evil.example", "/boot.js").Code)
}

func TestWithoutABuildThePlaceholderSaysSo(t *testing.T) {
	t.Parallel()
	files := built()
	for name := range files {
		if name != "index.html" {
			delete(files, name)
		}
	}
	h := console.Handler(files, console.Options{})
	require.Equal(t, "placeholder", ask(h, "GET", "/models", "Accept", "text/html").Body.String())
	require.Equal(t, 200, ask(h, "GET", "/favicon.ico").Code)
}

func TestEmbeddedFilesHoldAPage(t *testing.T) {
	t.Parallel()
	w := ask(console.Handler(web.Dist(), console.Options{}), "GET", "/", "Accept", "text/html")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "<html")
}
