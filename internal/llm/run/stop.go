package run

import (
	"bytes"
)

// stopper finds stop strings in text that arrives in pieces. Text that may yet become a stop string is held back; what is released never contains one.
type stopper struct {
	stops [][]byte
	held  []byte
}

// push adds text and appends to dst what can be released. If a stop string is complete, hit is its number and everything from its first byte on is dropped; else hit is -1. Of several, the one that
// completes first wins, the longer one on a tie: so the answer does not depend on how the text was cut.
func (s *stopper) push(dst []byte, text string) (out []byte, hit int) {
	if len(s.stops) == 0 {
		return append(dst, text...), -1
	}
	old := len(s.held)
	s.held = append(s.held, text...)
	hit, end, start := -1, 0, 0
	for i, stop := range s.stops {
		from := max(0, old-len(stop)+1) // an earlier match would have been seen
		if at := bytes.Index(s.held[from:], stop); at >= 0 {
			b, e := from+at, from+at+len(stop)
			if hit < 0 || e < end || e == end && b < start {
				hit, start, end = i, b, e
			}
		}
	}
	if hit >= 0 {
		dst = append(dst, s.held[:start]...)
		s.held = s.held[:0]
		return dst, hit
	}
	keep := s.partial()
	cut := len(s.held) - keep
	dst = append(dst, s.held[:cut]...)
	n := copy(s.held, s.held[cut:])
	s.held = s.held[:n]
	return dst, -1
}

// partial returns the length of the longest end of the held text that begins a stop string.
func (s *stopper) partial() int {
	best := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.held)); n > best; n-- {
			if bytes.Equal(s.held[len(s.held)-n:], stop[:n]) {
				best = n
			}
		}
	}
	return best
}

// flush appends what is held back: the text ended without a stop string.
func (s *stopper) flush(dst []byte) []byte {
	dst = append(dst, s.held...)
	s.held = s.held[:0]
	return dst
}
