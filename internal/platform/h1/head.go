package h1

import (
	"bytes"
	"strconv"
)

// Limits of an answer's head.
const (
	maxHead    = 32 << 10
	maxLine    = 8 << 10
	maxFields  = 100
	maxInterim = 5       // 1xx answers before the real one
	maxTrailer = 4 << 10 // bytes of trailer lines
)

// head is a parsed answer head. Values point into the head's bytes.
type head struct {
	status  int
	length  int64 // -1: not told
	chunked bool
	close   bool // the connection ends with this answer
	fields  []field
}

type field struct{ name, value []byte }

// parseHead reads status line and fields; b ends with the empty line. The slices of h point into b.
func parseHead(b []byte, h *head) error {
	*h = head{length: -1, fields: h.fields[:0]}
	line, b, err := cutLine(b)
	if err != nil {
		return err
	}
	old, err := parseStatus(line, h)
	if err != nil {
		return err
	}
	h.close = old
	for {
		if line, b, err = cutLine(b); err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		if len(h.fields) >= maxFields {
			return ErrProtocol.With("the answer has more than %d fields", maxFields)
		}
		f, err := parseField(line)
		if err != nil {
			return err
		}
		if err := h.note(f); err != nil {
			return err
		}
		h.fields = append(h.fields, f)
	}
	if h.chunked && h.length >= 0 {
		return ErrProtocol.With("the answer has a length beside chunks")
	}
	return nil
}

// cutLine splits off one line that ends with CRLF.
func cutLine(b []byte) (line, rest []byte, err error) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, ErrProtocol.With("a line of the answer's head does not end with CRLF")
	}
	if i > maxLine {
		return nil, nil, ErrProtocol.With("a line of the answer's head is over %d bytes", maxLine)
	}
	line = b[:i-1]
	for _, c := range line {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return nil, nil, ErrProtocol.With("the answer's head holds a control character")
		}
	}
	return line, b[i+1:], nil
}

// parseStatus reads `HTTP/1.1 200 words`. old says that the server speaks HTTP/1.0, which keeps no connection.
func parseStatus(line []byte, h *head) (old bool, err error) {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return false, ErrProtocol.With("the answer does not begin with an HTTP/1.1 status line")
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return false, ErrProtocol.With("the answer has no status")
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 {
		return false, ErrProtocol.With("the answer has no status")
	}
	return line[7] == '0', nil
}

func parseField(line []byte) (field, error) {
	if line[0] == ' ' || line[0] == '\t' {
		return field{}, ErrProtocol.With("the answer's head has a folded line")
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 {
		return field{}, ErrProtocol.With("the answer's head has a line without a field name")
	}
	for _, c := range name {
		if !tchar(c) {
			return field{}, ErrProtocol.With("the answer's head has a bad field name")
		}
	}
	return field{name, bytes.Trim(value, " \t")}, nil
}

// tchar is RFC 9110's set for field names.
func tchar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

func (h *head) note(f field) error {
	switch {
	case is(f.name, "content-length"):
		n, err := parseLength(f.value)
		if err != nil {
			return err
		}
		if h.length >= 0 {
			return ErrProtocol.With("the answer has two lengths")
		}
		h.length = n
	case is(f.name, "transfer-encoding"):
		if h.chunked || !is(f.value, "chunked") {
			return ErrProtocol.With("the answer has a coding other than chunked")
		}
		h.chunked = true
	case is(f.name, "connection"):
		for part := range bytes.SplitSeq(f.value, []byte{','}) {
			if is(bytes.Trim(part, " \t"), "close") {
				h.close = true
			}
		}
	case is(f.name, "content-encoding"):
		if !is(f.value, "identity") {
			return ErrProtocol.With("the answer is encoded, which was not asked for")
		}
	}
	return nil
}

func parseLength(v []byte) (int64, error) {
	if len(v) == 0 || len(v) > 18 {
		return 0, ErrProtocol.With("the answer's length is no number")
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, ErrProtocol.With("the answer's length is no number")
		}
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return 0, ErrProtocol.With("the answer's length is no number")
	}
	return n, nil
}

// is compares without case; lower must be lower-case ASCII.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// chunkSize reads `hex[;extension]` without its CRLF.
func chunkSize(line []byte) (int64, error) {
	digits, _, _ := bytes.Cut(line, []byte{';'})
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > 15 {
		return 0, ErrProtocol.With("a chunk of the answer has no size")
	}
	var n int64
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, ErrProtocol.With("a chunk of the answer has no size")
		}
		n = n<<4 | int64(c)
	}
	return n, nil
}
