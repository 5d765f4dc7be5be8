// Package front is an HTTP/1.1 server loop for paths where every microsecond counts. It stands before net/http on one listener: a connection is read here first, and a request that is anything but plain (another
// path, a body without a length, Expect, Upgrade, a head that is odd, large or slow, HTTP/2) is handed to net/http with all bytes that were read, and the connection with it. So the loop is strict and small: it
// never has to understand what it does not serve, and never answers what net/http would refuse.
//
// What it saves against net/http: the goroutine that watches each running request for its client's leaving (here one epoll set for all connections), read and write buffers of idle connections and quiet streams
// (bytes are read into pooled buffers once they are there), clones of headers, and timers (a deadline is set when a call really waits, not before each call).
//
// Handlers are ordinary ones. The maps of request and response headers are used again by the next request of the connection: a handler must not keep them after it has returned. The request's context is a
// [*Life]: cancelled when the client leaves or the handler returns, like net/http's. Only Linux has the loop; elsewhere net/http serves everything.
package front
