//go:build !amd64

package kernel

// Levels lists what this machine can run, slowest first.
func Levels() []Level { return []Level{Generic} }
