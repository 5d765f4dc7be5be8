// Package console serves the web console: the built files of web/dist, held in memory with their precompressed twins, and the page itself for every address that belongs to the console's router.
//
// It owns the rules of caching (files named by their hash for ever, everything else by ETag), of the fallback (a page only for a browser that asks for a page, never on an address of an API) and the security headers
// of every page. It knows no service and asks none.
package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Options are what a server knows and the files do not. The zero value serves any host with the default name and colour.
type Options struct {
	Version        string   // sent as X-Maas-Version; the console offers a reload when it changes
	Name           string   // product name in the manifest; "maas" when empty
	Hue            int      // brand hue in degrees of OKLCH, 0..359; 0 means the default, 264
	Hosts          []string // names (without port) this server answers to, 421 for others; empty = any
	ConnectOrigins []string // further origins for connect-src, such as an external object store for uploads
}

// owned are the first segments of addresses that answer themselves: a page in their place would turn a mistyped API call into a 200.
var owned = map[string]bool{
	"api": true, "v1": true, "v2": true, "xet": true, "embed": true, "hooks": true, "bots": true, "mcp": true,
	"metrics": true, "livez": true, "readyz": true, ".well-known": true,
}

// pages are the names of the page that the fallback serves, best first: the build, then the placeholder.
var pages = []string{"console.html", "index.html"}

const (
	forever    = "public, max-age=31536000, immutable"
	revalidate = "no-cache"
	defaultHue = 264
)

type file struct {
	kind, etag    string
	raw, br, gzip []byte // br and gzip are nil without a twin
	cache         string
}

type handler struct {
	files  map[string]*file
	page   *file
	policy string
	opt    Options
	hosts  map[string]bool
}

// Handler reads every file of files once and serves them from memory. It panics when there is no page at all, which is a fault of the build.
func Handler(files fs.FS, opt Options) http.Handler {
	h := &handler{files: load(files), opt: opt, policy: policy(opt.ConnectOrigins), hosts: map[string]bool{}}
	for _, name := range opt.Hosts {
		h.hosts[strings.ToLower(name)] = true
	}
	for _, name := range pages {
		if f := h.files[name]; f != nil && h.page == nil {
			h.page = f
		}
		delete(h.files, name)
	}
	if h.page == nil {
		panic("console: no console.html and no index.html among the files")
	}
	h.files["branding.css"] = made("text/css; charset=utf-8", fmt.Appendf(nil, ":root{--brand-h:%d}\n", h.hue()))
	h.files["manifest.webmanifest"] = made("application/manifest+json", h.manifest())
	if icon := h.files["favicon.svg"]; icon != nil {
		h.files["favicon.ico"] = icon
	} else {
		h.files["favicon.ico"] = made("image/svg+xml", []byte(icon0))
		h.files["favicon.svg"] = h.files["favicon.ico"]
	}
	return h
}

// icon0 stands in when the console was not built: a browser's request for an icon must not end in an error of its console.
const icon0 = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#3b3fd8"/></svg>`

func (h *handler) hue() int {
	if h.opt.Hue <= 0 || h.opt.Hue > 359 {
		return defaultHue
	}
	return h.opt.Hue
}

func (h *handler) name() string {
	if h.opt.Name == "" {
		return "maas"
	}
	return h.opt.Name
}

func (h *handler) manifest() []byte {
	b, _ := json.Marshal(map[string]any{ // strings and slices of them: cannot fail
		"name": h.name(), "short_name": h.name(), "start_url": "/", "display": "standalone", "background_color": "#ffffff", "theme_color": "#ffffff",
		"icons": []map[string]string{{"src": "/favicon.svg", "sizes": "any", "type": "image/svg+xml"}},
	})
	return b
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	if h.opt.Version != "" {
		head.Set("X-Maas-Version", h.opt.Version)
	}
	head.Set("X-Content-Type-Options", "nosniff")
	if len(h.hosts) > 0 && !h.hosts[hostname(r.Host)] {
		http.Error(w, "this server does not answer to that host name", http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if f := h.files[name]; f != nil {
		f.serve(w, r)
		return
	}
	first, _, _ := strings.Cut(name, "/")
	if owned[first] || first == "assets" || !wantsPage(r) {
		head.Set("Cache-Control", "no-store")
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	h.secure(head)
	h.page.serve(w, r)
}

func (h *handler) secure(head http.Header) {
	head.Set("Content-Security-Policy", h.policy)
	head.Set("Referrer-Policy", "same-origin")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), midi=()")
	head.Set("X-Frame-Options", "DENY")
}

func policy(connect []string) string {
	return "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src " +
		strings.Join(append([]string{"'self'"}, connect...), " ") +
		"; worker-src 'self'; manifest-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	body, coding := f.raw, choose(r.Header.Get("Accept-Encoding"), f.br != nil, f.gzip != nil)
	etag := `"` + f.etag + `"`
	switch coding {
	case "br":
		body, etag = f.br, `"`+f.etag+`-br"`
	case "gzip":
		body, etag = f.gzip, `"`+f.etag+`-gz"`
	}
	head.Set("Vary", "Accept-Encoding")
	head.Set("ETag", etag)
	head.Set("Cache-Control", f.cache)
	if match(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	head.Set("Content-Type", f.kind)
	if coding != "" {
		head.Set("Content-Encoding", coding)
	}
	head.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = bytes.NewReader(body).WriteTo(w) // the reader has gone away: nothing to tell it
}

func made(kind string, body []byte) *file {
	return &file{kind: kind, raw: body, etag: digest(body), cache: revalidate}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// load reads all files; `x.br` and `x.gz` become the twins of x and are not served under their own names.
func load(files fs.FS) map[string]*file {
	all := map[string]*file{}
	twin := map[string][]byte{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if ext := path.Ext(name); ext == ".br" || ext == ".gz" {
			twin[name] = b
			return nil
		}
		cache := revalidate
		if strings.HasPrefix(name, "assets/") {
			cache = forever
		}
		all[name] = &file{kind: contentType(name), raw: b, etag: digest(b), cache: cache}
		return nil
	})
	if err != nil {
		panic("console: " + err.Error()) // embedded files do not fail to read
	}
	for name, f := range all {
		f.br, f.gzip = twin[name+".br"], twin[name+".gz"]
	}
	return all
}

// kinds is our own table: the one of package mime depends on files of the machine.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
	".json": "application/json", ".woff2": "font/woff2", ".png": "image/png", ".ico": "image/x-icon", ".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json", ".map": "application/json",
}

func contentType(name string) string {
	if k := kinds[path.Ext(name)]; k != "" {
		return k
	}
	return "application/octet-stream"
}

func hostname(host string) string {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return strings.TrimSuffix(host, ".")
}

// wantsPage reports whether the caller is a browser that opens an address: it names text/html, which scripts and pictures do not.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// match reports whether an If-None-Match header holds etag (weak comparison, RFC 9110 section 13.1.2).
func match(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == etag {
			return true
		}
	}
	return false
}

// choose picks the coding with the highest quality value among those there are; br wins over gzip at equal value, plain bytes ("") only when neither is acceptable.
func choose(accept string, br, gz bool) string {
	q := map[string]float64{}
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		value := 1.0
		if _, v, ok := strings.Cut(params, "q="); ok {
			if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
				value = f
			}
		}
		q[strings.ToLower(strings.TrimSpace(name))] = value
	}
	quality := func(name string) float64 {
		if v, ok := q[name]; ok {
			return v
		}
		return q["*"]
	}
	best, coding := 0.0, ""
	if v := quality("br"); br && v > best {
		best, coding = v, "br"
	}
	if v := quality("gzip"); gz && v > best {
		coding = "gzip"
	}
	return coding
}
