//go:build !linux

package kernel

import "testing"

func guarded[E any](_ *testing.T, s []E) []E { return append([]E(nil), s...) }
