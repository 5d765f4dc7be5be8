// Package run is the text-generation engine: a paged key/value cache with prefix sharing, a scheduler that batches many requests into each forward pass, sampling, stop conditions and exact usage.
//
// The engine promises the same token ids and the same bits of logits for the same request and seed, whatever else runs beside it: batch, chunk size of the prompt, prefix-cache hits, preemption, threads and
// kernel level change the time, never the answer.
//
// It knows no HTTP, no tenant's rights and no files; the worker process around it does (package inference/engine/native/worker).
package run
