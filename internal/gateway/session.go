package gateway

import (
	"bytes"
	"hash/crc32"
)

// sessionMost is how much of a conversation's beginning tells it from others.
const sessionMost = 2 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// session is a number that the requests of one session share: of the body's prompt_cache_key, else of the X-Session-Id header, else of the conversation's beginning up to its first user message. It is the
// same in every process.
func (c *call) session() uint64 {
	if key := stringAt(c.body, `"prompt_cache_key"`); len(key) > 0 {
		return sessionOf(key)
	}
	if h, ok := c.out.(*httpClient); ok {
		if s := h.r.Header.Get("X-Session-Id"); s != "" {
			return sessionOf([]byte(s))
		}
	}
	return sessionOf(opening(c.body))
}

func sessionOf(b []byte) uint64 { return 1<<32 | uint64(crc32.Checksum(b, castagnoli)) }

// after finds a key and returns where its value begins, -1 without it. A key cannot stand unescaped inside a string.
func after(b []byte, key string) int {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return -1
	}
	v := colon(b, i+len(key))
	if v < 0 || v >= len(b) {
		return -1
	}
	return v
}

func stringAt(b []byte, key string) []byte {
	v := after(b, key)
	if v < 0 || b[v] != '"' {
		return nil
	}
	return b[v+1 : v+1+stringLen(b[v+1:])]
}

// opening is the beginning of a conversation that its later turns repeat: the messages up to the first of a user, or the beginning of a prompt.
func opening(b []byte) []byte {
	v := after(b, `"messages"`)
	if v < 0 || b[v] != '[' {
		if v = after(b, `"prompt"`); v < 0 {
			if v = after(b, `"input"`); v < 0 {
				return b[:min(len(b), sessionMost)]
			}
		}
		return b[v:min(len(b), v+sessionMost)]
	}
	s := scanner{b: b, i: v + 1}
	for s.i < len(b) && s.i < v+sessionMost {
		s.space()
		from := s.i
		if from >= len(b) || b[from] != '{' || s.value(1) != nil {
			break
		}
		if bytes.Contains(b[from:s.i], []byte(`"user"`)) {
			break
		}
		s.space()
		if s.i >= len(b) || b[s.i] != ',' {
			break
		}
		s.i++
	}
	return b[v:min(len(b), s.i, v+sessionMost)]
}
