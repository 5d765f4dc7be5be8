// Package inference runs models: deployments and their replicas on any engine, the supervision of engine processes, upstream accounts, routes, and the table by which requests find a replica.
//
// # What it owns
//
// A deployment is what a tenant wants to run under a public model name. Its replica is one instance of it: a child process here, or an upstream. Each start of a replica is an attempt; the newest wins.
// What is wanted lives in the database and survives everything; what runs is brought in line with it by a loop that is woken by changes and runs every two seconds besides.
//
// # Invariants
//
//   - No state changes without a transition row that says why, with a code, words and a next step.
//   - A replica has at most one live process. One that a killed server left behind is attached to again, or killed, before another starts.
//   - The route table holds ready endpoints only. Fallbacks of routes never lead in a circle.
//   - What a breaker does is decided by outcomes of requests and probes alone, in each process that routes; the other processes and the database only hear of it.
//   - What is accepted fits: need is computed from the files' headers and held against free memory before a process starts. Context and concurrency are never cut silently.
//   - A replica becomes ready by its own engine's answer only: a nonce proves it, and one generated token.
//
// # Who asks it
//
// The gateway through [Router] and [Feed]; the console and the command line through the management API; other services through [API].
package inference
