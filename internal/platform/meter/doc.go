// Package meter keeps what was consumed until it is booked: an append-only journal on the local disk, shipped in numbered batches. It knows subjects and amounts as bytes; the gateway gives them meaning.
//
// An entry is opened when a request is admitted, marked while it runs, closed once with what it cost. A record is in the operating system's hands before the call returns, so killing the process loses
// nothing that was closed; a power cut loses at most the last 200 ms. What a crash left open comes back as an [Orphan] with its last mark, to be closed by the next process.
//
// Batches are shipped at least once and numbered (node, epoch, sequence): the epoch grows with every start, so the receiver books each batch once. After a restart a record may be shipped again under another
// number: rows need an identity of their own (the request id).
package meter
