// Package gateway is the hot path of inference calls: it reads the credential and the body's top level in memory, picks an engine, passes the answer back byte by byte and books the true usage once.
//
// On this path there is no SQL, no decode of the body, no global lock and no goroutine per upstream connection. The life of a request: credential (user.Verifier) -> body into a pooled buffer under a cap and
// a clock (body.go) -> one scan of the top level (scan.go) -> model access -> inference.Router -> journal OPEN (usage.go over platform/meter) -> splices (splice.go) -> attempts along the route (retry.go) at engines over platform/h1 (call.go) ->
// whole events to the client (stream.go) -> journal CLOSE -> shipper -> user.API.Record.
//
// Invariants: nothing is committed to the client before the first event, so a failing replica is replaced unseen; after it a failure is one error event and never a second model's text. Every admitted request
// is settled exactly once, whatever ends it. An error event never lands inside another event: only whole events go out. Client credentials never reach an engine, engine headers never the client.
package gateway
