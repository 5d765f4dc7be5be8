// Package h1 is an HTTP/1.1 client for engines: TCP, TLS and unix sockets, strict about what it reads, without a goroutine per connection.
//
// The caller's goroutine writes the request and reads the answer piece by piece out of the connection's own buffer. [Response.Cancel] may come from another goroutine: it closes our half, so that the server
// learns that nobody listens any more, and leaves a second to read what it still says (the usage of an aborted stream).
//
// What it refuses: bare line feeds, heads over 32 KiB or 100 fields, folded lines, two lengths, a length beside chunks, codings other than chunked, bad chunk sizes, NUL in heads: all ErrProtocol, and the
// connection is closed. Chunk extensions and trailers are read and dropped; bodies that end with the connection are taken. It asks for identity encoding and follows no redirect.
package h1
