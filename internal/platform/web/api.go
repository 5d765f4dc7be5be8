package web

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"maas/internal/platform/auth"
)

// API is the management API that services register on. huma is named in this package only.
type API = huma.API

// Prefix is where the management API is mounted; paths given to Get, Post, ... are relative to it.
const Prefix = "/api/v1"

// Permissions that are not rights of a role.
const (
	Public   = "public"    // no credential is read
	SignedIn = "signed-in" // any valid credential
)

// None is the answer type of routes without a body (204).
type None struct{}

// Authenticator reads the credential of a request. It answers auth.ErrUnauthenticated (or a fault of its own) for a missing or bad one.
type Authenticator func(ctx context.Context, r *http.Request) (auth.Principal, error)

// Route is one declared route of the management API.
type Route struct {
	Method, Path, OperationID, Permission string
}

type output[O any] struct{ Body O }

// Get registers a route that reads. See Register for the arguments.
func Get[I, O any](api API, path, operationID, permission string, status int, h func(context.Context, *I) (O, error)) {
	register(api, http.MethodGet, path, operationID, permission, status, h)
}

// Post registers a route that creates or acts.
func Post[I, O any](api API, path, operationID, permission string, status int, h func(context.Context, *I) (O, error)) {
	register(api, http.MethodPost, path, operationID, permission, status, h)
}

// Put registers a route that replaces.
func Put[I, O any](api API, path, operationID, permission string, status int, h func(context.Context, *I) (O, error)) {
	register(api, http.MethodPut, path, operationID, permission, status, h)
}

// Patch registers a route that changes parts.
func Patch[I, O any](api API, path, operationID, permission string, status int, h func(context.Context, *I) (O, error)) {
	register(api, http.MethodPatch, path, operationID, permission, status, h)
}

// Delete registers a route that removes.
func Delete[I, O any](api API, path, operationID, permission string, status int, h func(context.Context, *I) (O, error)) {
	register(api, http.MethodDelete, path, operationID, permission, status, h)
}

// register declares one route. path is relative to Prefix; operationID `<service>_<noun>_<verb>`; permission a right, Public or SignedIn; status that of success; I a huma input struct (tags path, query,
// header, Body), O the body of the answer, None for 204. Errors of h are faults.
func register[I, O any](api API, method, path, operationID, permission string, status int, h func(context.Context, *I) (O, error)) {
	service, _, ok := strings.Cut(operationID, "_")
	if !ok || permission == "" {
		panic("web: " + method + " " + path + ": operationID must be <service>_<noun>_<verb> and a permission must be named")
	}
	op := huma.Operation{
		Method: method, Path: Prefix + path, OperationID: operationID, DefaultStatus: status, Tags: []string{service}, Summary: summary(operationID),
		MaxBodyBytes: 1 << 20, BodyReadTimeout: 10 * time.Second, Metadata: map[string]any{"permission": permission},
		Extensions: map[string]any{"x-permission": permission},
	}
	if permission != Public {
		op.Security = []map[string][]string{{"bearer": {}}}
	}
	if _, none := any(*new(O)).(None); none {
		huma.Register(api, op, func(ctx context.Context, in *I) (*struct{}, error) {
			if _, err := h(ctx, in); err != nil {
				return nil, asStatusError(ctx, err)
			}
			return nil, nil
		})
		return
	}
	huma.Register(api, op, func(ctx context.Context, in *I) (*output[O], error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, asStatusError(ctx, err)
		}
		return &output[O]{out}, nil
	})
}

func summary(operationID string) string {
	words := strings.Split(operationID, "_")
	return strings.Join(append(words[len(words)-1:], words[1:len(words)-1]...), " ")
}

// configureHuma sets huma's global switches, once for all servers of the process.
var configureHuma = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true // else {"role":"a","ROLE":"admin"} passes the check and decodes as admin
	huma.NewErrorWithContext = humaError
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return humaError(nil, status, msg, errs...)
	}
})

// newAPI sets huma up on mux. See RFC 9457 for the error form and api.md for the choices.
func newAPI(s *Server, mux *http.ServeMux, version string) API {
	configureHuma()
	c := huma.DefaultConfig("maas", version)
	c.CreateHooks = nil // no $schema in bodies
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.RejectUnknownQueryParameters = true
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer", Description: "Session token or API key"}}
	c.Info.Description = "The management API of maas. Errors are problem+json (RFC 9457); lists are {items, next}; times are RFC 3339 UTC."
	api := humago.New(mux, c)
	api.UseMiddleware(s.admit)
	return api
}

// schemaName gives <Package><Type>, so that user.Key and model.Key do not collide.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	if t.Name() == "" {
		return name
	}
	pkg := t.PkgPath()
	if open := strings.IndexByte(t.Name(), '['); open >= 0 { // List[maas/internal/user.Key]: named after its element
		inner := t.Name()[open+1:]
		if dot := strings.LastIndexByte(inner, '.'); dot >= 0 {
			pkg = strings.TrimLeft(inner[:dot], "[]*")
		}
	}
	pkg = pkg[strings.LastIndexByte(pkg, '/')+1:]
	if pkg == "" || strings.EqualFold(name, pkg) || pkg == "web" {
		return name
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + name
}

// admit runs before every route of the management API: it puts the call into the context, reads the credential, checks the permission.
func (s *Server) admit(hc huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(hc)
	permission, _ := hc.Operation().Metadata["permission"].(string)
	ctx, err := s.admitted(w, r, permission)
	if err != nil {
		WriteProblem(w, r, err)
		return
	}
	next(huma.WithContext(hc, context.WithValue(ctx, callKey{}, call{w, r.WithContext(ctx)})))
}

// admitted is authorize, then the limit of requests, which refused ones count against too.
func (s *Server) admitted(w http.ResponseWriter, r *http.Request, permission string) (context.Context, error) {
	ctx, err := s.authorize(r, permission)
	p, _ := auth.From(ctx)
	if over := s.rate(w, r, p); over != nil {
		return ctx, over
	}
	return ctx, err
}

// Authorize checks the credential of a request outside the management API. It answers the fault to show, nil when the caller may.
func (s *Server) Authorize(r *http.Request, permission string) error {
	_, err := s.authorize(r, permission)
	return err
}

// authorize returns the context with the caller, as far as it is known, also beside an error.
func (s *Server) authorize(r *http.Request, permission string) (context.Context, error) {
	ctx := r.Context()
	if permission == Public {
		return ctx, nil
	}
	p, err := s.authenticate(ctx, r)
	if err != nil {
		return ctx, err
	}
	ctx = auth.With(ctx, p)
	notePrincipal(ctx, p)
	if permission != SignedIn {
		if err := auth.Need(ctx, permission, objects(p, r.URL.Path)...); err != nil {
			return ctx, err
		}
	}
	return ctx, nil
}

// objects are the things that a path names, for callers who hold grants on single objects: /inference/deployments/dep_1/start is about the deployment dep_1. Only ids count; a name is not an id.
func objects(p auth.Principal, path string) []auth.Object {
	if len(p.Grants) == 0 {
		return nil
	}
	var list []auth.Object
	segments := strings.Split(strings.TrimPrefix(path, Prefix+"/"), "/")
	for i := range len(segments) - 1 {
		if kind, ok := strings.CutSuffix(segments[i], "s"); ok {
			list = append(list, auth.Object{Kind: kind, ID: segments[i+1]})
		}
	}
	return list
}

type (
	callKey struct{}
	call    struct {
		w http.ResponseWriter
		r *http.Request
	}
)

func callOf(ctx context.Context) call { c, _ := ctx.Value(callKey{}).(call); return c }

// Request returns the HTTP request behind a route's context.
func Request(ctx context.Context) *http.Request { return callOf(ctx).r }

// SetHeader sets a header of the answer from inside a route.
func SetHeader(ctx context.Context, key, value string) { callOf(ctx).w.Header().Set(key, value) }

// SetCookie adds a cookie to the answer from inside a route.
func SetCookie(ctx context.Context, c *http.Cookie) { http.SetCookie(callOf(ctx).w, c) }

// SetRev sets the ETag of a single object from its revision.
func SetRev(ctx context.Context, rev int64) {
	SetHeader(ctx, "ETag", `"`+strconv.FormatInt(rev, 10)+`"`)
}

// CheckRev compares If-Match, where sent, with the present revision: ErrPrecondition if another change came between.
func CheckRev(ctx context.Context, rev int64) error {
	r := Request(ctx)
	if r == nil {
		return nil
	}
	want := r.Header.Get("If-Match")
	if want == "" || want == "*" || strings.Trim(want, `W/"`) == strconv.FormatInt(rev, 10) {
		return nil
	}
	return ErrPrecondition.With("the object is at revision %d", rev)
}

func itoa(n int) string { return strconv.Itoa(n) }
