//go:build unix && !linux

package kernel

func advise([]byte) {}
