// Package maas is the composition root: configuration -> parts -> services -> running process. It is the only package that knows all services.
//
// A process runs a set of services. Each module of the table says what it needs; a need inside the set is a Go call, one outside is a remote procedure call to the peer that the configuration names. Nothing in
// a service knows which of the two it is.
package maas
