package gateway

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"

	"maas/internal/platform/fault"
)

// The errors of a body.
var (
	ErrInvalidJSON      = fault.New(fault.Invalid, "gateway.invalid_json", "the body is not one JSON object")
	ErrAmbiguousField   = fault.New(fault.Invalid, "gateway.ambiguous_field", "a field is named in a way that parsers read differently")
	ErrInvalidModel     = fault.New(fault.Invalid, "gateway.invalid_model", "the field model must be the name of a model")
	ErrInvalidParameter = fault.New(fault.Invalid, "gateway.invalid_parameter", "a parameter has a wrong value")
)

const (
	maxNesting = 128
	maxModel   = 256 // bytes of a model name
	mediaMark  = "data:"
	mediaBytes = 3 << 10 // a picture within the body counts as this much text: a thousand tokens
)

// span is a piece of the body: [from, to). to == 0 means that it is not there.
type span struct{ from, to int }

func (s span) ok() bool { return s.to != 0 }

// fields is what one pass over the top level of a body finds.
type fields struct {
	model        span  // the string with its quotes
	options      span  // value of stream_options if it is an object
	optionsNull  span  // the same if it is null
	usageValue   span  // value of stream_options.include_usage
	runValue     span  // value of stream_options.continuous_usage_stats
	maxTokens    int64 // max_completion_tokens, else max_tokens; -1 = neither
	maxOutput    int64 // max_output_tokens; -1 = not there
	n            int64 // choices asked for; 1 if not told
	end          int   // offset of the object's closing brace
	textBytes    int   // bytes inside strings, keys left out: what a prompt's length is estimated from
	stream       bool
	includeUsage bool // the client asked for the usage event
	runningUsage bool // the client asked for usage in each event
	hasMax       bool // one of max_tokens, max_completion_tokens is there and not null
	hasTemp      bool
	hasTopP      bool
	member       bool // the object has at least one member
	optMember    bool // stream_options has at least one member
}

// name returns the model's name as it stands in the body. Valid after a successful scan: it holds no escapes.
func (f *fields) name(body []byte) []byte { return body[f.model.from+1 : f.model.to-1] }

// The inspected names. Each may stand once, in exactly this spelling: a parser that takes the first, the last, or matches without case, would see another value than we do.
const (
	keyModel = iota
	keyStream
	keyStreamOptions
	keyN
	keyBestOf
	keyMaxTokens
	keyMaxCompletion
	keyMaxOutput
	keyTemperature
	keyTopP
	keyCount
)

var inspected = [keyCount]string{"model", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature", "top_p"}

// scanner walks a body once. It accepts exactly RFC 8259 (with any bytes >= 0x20 in strings, as encoding/json does) up to maxNesting levels.
type scanner struct {
	b    []byte
	i    int
	text int
}

// scan validates the whole body and collects the inspected fields of its top level. No allocation unless it fails.
func scan(body []byte) (fields, error) {
	f := fields{maxTokens: -1, maxOutput: -1, n: 1}
	s := scanner{b: body}
	s.space()
	if s.i >= len(body) || body[s.i] != '{' {
		return f, s.fail("must begin with {")
	}
	s.i++
	var seen uint32
	s.space()
	for first := true; ; first = false {
		if s.i < len(body) && body[s.i] == '}' && first {
			break
		}
		key, err := s.key()
		if err != nil {
			return f, err
		}
		f.member = true
		which, err := match(key, inspected[:])
		if err != nil {
			return f, err
		}
		if which >= 0 {
			if seen&(1<<which) != 0 {
				return f, ErrAmbiguousField.With("the field %s stands twice in the body", inspected[which])
			}
			seen |= 1 << which
		}
		if err := s.member(&f, which); err != nil {
			return f, err
		}
		more, err := s.next('}')
		if err != nil {
			return f, err
		}
		if !more {
			break
		}
	}
	f.end = s.i
	s.i++
	s.space()
	if s.i != len(body) {
		return f, s.fail("has bytes after the object")
	}
	if !f.model.ok() {
		return f, ErrInvalidModel.With("the field model is missing").WithFields(fault.Field{Name: "model", Code: "required", Message: "must be the name of a model"})
	}
	f.textBytes = s.text
	return f, nil
}

// member reads the value of one top-level member.
func (s *scanner) member(f *fields, which int) error {
	from := s.i
	before := s.text
	if which == keyStreamOptions && s.i < len(s.b) && s.b[s.i] == '{' {
		if err := s.streamOptions(f); err != nil {
			return err
		}
		f.options = span{from, s.i}
		return nil
	}
	if err := s.value(1); err != nil {
		return err
	}
	v := s.b[from:s.i]
	null := string(v) == "null"
	switch which {
	case keyModel:
		s.text = before
		if err := checkModel(v); err != nil {
			return err
		}
		f.model = span{from, s.i}
	case keyStream:
		f.stream = string(v) == "true"
		if !f.stream && !null && string(v) != "false" {
			return badParameter("stream", "type", "must be true or false")
		}
	case keyStreamOptions:
		if !null {
			return badParameter("stream_options", "type", "must be an object")
		}
		f.optionsNull = span{from, s.i}
	case keyN, keyBestOf, keyMaxTokens, keyMaxCompletion, keyMaxOutput:
		if null {
			return nil
		}
		n, ok := integer(v)
		if !ok || n < 0 || n > math.MaxInt32 {
			return badParameter(inspected[which], "type", "must be a whole number of at least 0")
		}
		s.number(f, which, n)
	case keyTemperature:
		f.hasTemp = !null
	case keyTopP:
		f.hasTopP = !null
	}
	return nil
}

func (s *scanner) number(f *fields, which int, n int64) {
	switch which {
	case keyN:
		f.n = max(f.n, n)
	case keyMaxTokens:
		f.hasMax = true
		if f.maxTokens < 0 {
			f.maxTokens = n
		}
	case keyMaxCompletion:
		f.hasMax = true
		f.maxTokens = n
	case keyMaxOutput:
		f.maxOutput = n
	}
}

var optionNames = []string{"include_usage", "continuous_usage_stats"}

// streamOptions reads the object under stream_options; the cursor stands on its brace.
func (s *scanner) streamOptions(f *fields) error {
	s.i++
	s.space()
	if s.i < len(s.b) && s.b[s.i] == '}' {
		s.i++
		return nil
	}
	for {
		key, err := s.key()
		if err != nil {
			return err
		}
		f.optMember = true
		which, err := match(key, optionNames)
		if err != nil {
			return err
		}
		from := s.i
		if err := s.value(2); err != nil {
			return err
		}
		if which >= 0 {
			if err := s.option(f, which, span{from, s.i}); err != nil {
				return err
			}
		}
		more, err := s.next('}')
		if err != nil {
			return err
		}
		if !more {
			s.i++
			return nil
		}
	}
}

// option notes one inspected member of stream_options.
func (s *scanner) option(f *fields, which int, v span) error {
	name := "stream_options." + optionNames[which]
	place, on := &f.usageValue, &f.includeUsage
	if which == 1 {
		place, on = &f.runValue, &f.runningUsage
	}
	if place.ok() {
		return ErrAmbiguousField.With("the field %s stands twice in the body", name)
	}
	*place = v
	switch string(s.b[v.from:v.to]) {
	case "true":
		*on = true
	case "false", "null":
	default:
		return badParameter(name, "type", "must be true or false")
	}
	return nil
}

func badParameter(param, code, message string) error {
	return ErrInvalidParameter.With("%s %s", param, message).WithFields(fault.Field{Name: param, Code: code, Message: message})
}

// match finds a key among names: its index, or -1. The same name in another case, or with an escape in it, is refused.
func match(key []byte, names []string) (int, error) {
	plain := true
	for _, c := range key {
		if c == '\\' {
			return -1, ErrAmbiguousField.With("the field name %.40q holds an escape", key)
		}
		plain = plain && c < 0x80
	}
	for i, n := range names {
		if len(n) == len(key) && string(key) == n {
			return i, nil
		}
		if plain && len(n) != len(key) {
			continue
		}
		if bytes.EqualFold(key, []byte(n)) { // also the two letters outside ASCII that fold to k and s
			return -1, ErrAmbiguousField.With("the field %.40q must be written %q", key, n)
		}
	}
	return -1, nil
}

// checkModel takes the raw JSON of the model field.
func checkModel(v []byte) error {
	message := ""
	switch {
	case len(v) < 2 || v[0] != '"':
		message = "must be a string"
	case len(v) == 2:
		message = "must not be empty"
	case len(v)-2 > maxModel:
		message = "must have at most 256 bytes"
	case bytes.IndexByte(v, '\\') >= 0:
		message = "must not hold escapes"
	default:
		return nil
	}
	return ErrInvalidModel.With("the field model %s", message).WithFields(fault.Field{Name: "model", Code: "format", Message: message})
}

// integer reads a JSON number that is whole, in whatever spelling (1e3, 1.0).
func integer(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 40 || v[0] != '-' && (v[0] < '0' || v[0] > '9') {
		return 0, false
	}
	var n int64
	for i, c := range v {
		if c < '0' || c > '9' || i > 17 {
			x, err := strconv.ParseFloat(string(v), 64)
			if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
				return 0, false
			}
			return int64(x), true
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func (s *scanner) fail(what string) error {
	return ErrInvalidJSON.With("the body %s (at byte %d)", what, s.i)
}

func (s *scanner) space() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\r' || s.b[s.i] == '\t') {
		s.i++
	}
}

// key reads `"name" :` and the space behind; it returns the name without quotes.
func (s *scanner) key() ([]byte, error) {
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return nil, s.fail("needs a field name in quotes")
	}
	from, text := s.i+1, s.text
	if err := s.str(); err != nil {
		return nil, err
	}
	s.text = text
	key := s.b[from : s.i-1]
	s.space()
	if s.i >= len(s.b) || s.b[s.i] != ':' {
		return nil, s.fail("needs a colon after a field name")
	}
	s.i++
	s.space()
	return key, nil
}

// next reads a comma (true: a further element follows) or looks at the closing bracket (false: the cursor stays on it).
func (s *scanner) next(closing byte) (bool, error) {
	s.space()
	if s.i >= len(s.b) {
		return false, s.fail("ends in the middle")
	}
	switch s.b[s.i] {
	case ',':
		s.i++
		s.space()
		return true, nil
	case closing:
		return false, nil
	}
	return false, s.fail("needs a comma or " + string(closing))
}

// value reads any value; the cursor stands on its first byte. depth counts the brackets open around it.
func (s *scanner) value(depth int) error {
	if s.i >= len(s.b) {
		return s.fail("ends in the middle")
	}
	switch c := s.b[s.i]; {
	case c == '"':
		return s.str()
	case c == '{' || c == '[':
		return s.nested(depth)
	case c == '-' || c >= '0' && c <= '9':
		return s.num()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return s.fail("holds a value that is no JSON")
}

// nested reads an array or object with all inside, without recursion: one bit a level says which of the two is open.
func (s *scanner) nested(depth int) error {
	var object [maxNesting/64 + 1]uint64
	level := depth // levels open before the one that begins here
	base := depth
	for {
		// the cursor stands on a value
		if s.i < len(s.b) && (s.b[s.i] == '{' || s.b[s.i] == '[') {
			if level >= maxNesting {
				return s.fail("is nested more than 128 deep")
			}
			isObject := s.b[s.i] == '{'
			setBit(&object, level, isObject)
			level++
			s.i++
			s.space()
			if s.i < len(s.b) && s.b[s.i] == closer(isObject) {
				s.i++
				level--
			} else {
				if isObject {
					if _, err := s.key(); err != nil {
						return err
					}
				}
				continue
			}
		} else if err := s.value(level); err != nil {
			return err
		}
		// a value ended: close what closes, else go to the next element
		for {
			if level == base {
				return nil
			}
			isObject := object[(level-1)/64]&(1<<((level-1)%64)) != 0
			more, err := s.next(closer(isObject))
			if err != nil {
				return err
			}
			if more {
				if isObject {
					if _, err := s.key(); err != nil {
						return err
					}
				}
				break
			}
			s.i++
			level--
		}
	}
}

func setBit(set *[maxNesting/64 + 1]uint64, i int, on bool) {
	if on {
		set[i/64] |= 1 << (i % 64)
	} else {
		set[i/64] &^= 1 << (i % 64)
	}
}

func closer(object bool) byte {
	if object {
		return '}'
	}
	return ']'
}

func (s *scanner) word(w string) error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.fail("holds a value that is no JSON")
	}
	s.i += len(w)
	return nil
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func (s *scanner) num() error {
	if s.b[s.i] == '-' {
		s.i++
	}
	switch {
	case s.i < len(s.b) && s.b[s.i] == '0':
		s.i++
	case !s.digits():
		return s.fail("holds a number that is none")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return s.fail("holds a number that is none")
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.fail("holds a number that is none")
		}
	}
	return nil
}

const (
	ones = 0x0101010101010101
	high = 0x8080808080808080
)

// str reads a string; the cursor stands on its opening quote. Eight bytes at a time are searched for a quote, a backslash or a control byte.
func (s *scanner) str() error {
	b, i := s.b, s.i+1
	from := i
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q, e := w^(ones*'"'), w^(ones*'\\')
			hit := ((q-ones)&^q | (e-ones)&^e | (w-ones*0x20)&^w) & high
			if hit != 0 {
				i += bits.TrailingZeros64(hit) / 8
				break
			}
			i += 8
		}
		if i >= len(b) {
			s.i = i
			return s.fail("ends inside a string")
		}
		switch c := b[i]; {
		case c == '"':
			if n := i - from; n > mediaBytes && string(b[from:from+len(mediaMark)]) == mediaMark {
				s.text += mediaBytes
			} else {
				s.text += n
			}
			s.i = i + 1
			return nil
		case c == '\\':
			n := escape(b[i:])
			if n == 0 {
				s.i = i
				return s.fail("holds an escape that is none")
			}
			i += n
		case c < 0x20:
			s.i = i
			return s.fail("holds a control character inside a string")
		default:
			i++
		}
	}
}

// escape returns the length of the escape at the front of b, 0 if it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}
