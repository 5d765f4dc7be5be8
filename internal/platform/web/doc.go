// Package web is the program's HTTP edge: one listener, dispatched by the first path segment; the management API on huma; problem+json; server-sent events; limits, request ids, graceful drain.
//
// A service declares its routes with [Get], [Post], ... or, where bytes stream, with [Mux.Handle]. Every route names the permission it needs; a route without one does not register. The credential is read by
// the [Authenticator] that the composition root sets (the user service's); web itself knows no service.
package web
