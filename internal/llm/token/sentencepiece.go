package token

import (
	"encoding/binary"
	"math"
)

// fromSentencePiece reads tokenizer.model, a protocol buffer: field 1 = pieces (1 text, 2 score, 3 type), 2 = trainer_spec (3 model type: 2 is BPE; 40..43 ids of unk, bos, eos, pad; 35 byte
// fallback), 3 = normalizer_spec (2 character map, 3 add a leading space, 4 remove extra spaces, 5 spaces to U+2581).
func fromSentencePiece(raw []byte, cfg config) (*Tokenizer, error) {
	s := &spec{bos: -1, eos: -1, unk: -1, scored: true, fallback: true, fuse: true, spaced: true, prefix: prefixAlways, cut: whole{}}
	kind, charMap, extra := uint64(1), false, true
	ids := map[int]int32{40: 0, 41: 1, 42: 2}
	err := fields(raw, func(no int, v uint64, b []byte) error {
		switch no {
		case 1:
			return s.piece(b)
		case 2:
			return fields(b, func(no int, v uint64, _ []byte) error {
				if no == 3 {
					kind = v
				}
				if _, ok := ids[no]; ok {
					ids[no] = int32(min(int64(v), math.MaxInt32))
				}
				return nil
			})
		case 3:
			return fields(b, func(no int, v uint64, b []byte) error {
				switch no {
				case 2:
					charMap = len(b) > 0
				case 3:
					if v == 0 {
						s.prefix = prefixNone
					}
				case 4:
					extra = v != 0
				case 5:
					s.spaced = v != 0
				}
				return nil
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case kind != 2:
		return nil, ErrInvalid.With("tokenizer.model is of the kind %d; supported is 2 (byte pairs)", kind)
	case charMap:
		return nil, ErrInvalid.With("tokenizer.model rewrites characters before splitting, which is not supported; a tokenizer.json of the model may be")
	case !s.spaced:
		return nil, ErrInvalid.With("tokenizer.model keeps spaces as they are, which is not supported")
	}
	if extra {
		s.normalize = bounded(squeeze)
	}
	s.unk, s.bos, s.eos = ids[40], ids[41], ids[42]
	s.add.AddBOS = s.bos >= 0
	if err := s.extend(cfg.added); err != nil {
		return nil, err
	}
	cfg.apply(s)
	return s.build()
}

// extend adds tokens that tokenizer_config.json defines behind those of the model.
func (s *spec) extend(added []jsonAdded) error {
	for _, a := range added {
		if a.ID < 0 || a.ID >= MaxVocab {
			return ErrInvalid.With("the added token %.40q has the id %d", a.Content, a.ID)
		}
		for int(a.ID) >= len(s.tokens) {
			s.tokens = append(s.tokens, entry{kind: Unused})
		}
		e := &s.tokens[a.ID]
		if e.kind != Unused && e.kind != Normal && e.kind != UserDefined {
			continue
		}
		e.text, e.kind = a.Content, UserDefined
		if a.Special {
			e.kind = Control
		}
	}
	return nil
}

// squeeze drops spaces at both ends and all but one between words.
func squeeze(t string) string {
	out := make([]byte, 0, len(t))
	for i := range len(t) {
		if t[i] == ' ' && (len(out) == 0 || out[len(out)-1] == ' ') {
			continue
		}
		out = append(out, t[i])
	}
	for len(out) > 0 && out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return string(out)
}

// piece reads one token.
func (s *spec) piece(b []byte) error {
	e := entry{kind: Normal}
	err := fields(b, func(no int, v uint64, b []byte) error {
		switch no {
		case 1:
			e.text = string(b)
		case 2:
			e.score = math.Float32frombits(uint32(v))
		case 3:
			if v >= uint64(Normal) && v <= uint64(Byte) {
				e.kind = Kind(v)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(s.tokens) >= MaxVocab {
		return ErrInvalid.With("tokenizer.model has more than %d tokens", MaxVocab)
	}
	s.tokens = append(s.tokens, e)
	return nil
}

// fields calls f for each field of a protocol buffer message: v for numbers, b for bytes.
func fields(raw []byte, f func(no int, v uint64, b []byte) error) error {
	bad := ErrInvalid.With("tokenizer.model is not a valid SentencePiece file")
	for len(raw) > 0 {
		key, n := binary.Uvarint(raw)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29 {
			return bad
		}
		raw = raw[n:]
		var v uint64
		var b []byte
		switch key & 7 {
		case 0:
			if v, n = binary.Uvarint(raw); n <= 0 {
				return bad
			}
			raw = raw[n:]
		case 1:
			if len(raw) < 8 {
				return bad
			}
			v, raw = binary.LittleEndian.Uint64(raw), raw[8:]
		case 2:
			size, n := binary.Uvarint(raw)
			if n <= 0 || size > uint64(len(raw)-n) {
				return bad
			}
			b, raw = raw[n:n+int(size)], raw[n+int(size):]
		case 5:
			if len(raw) < 4 {
				return bad
			}
			v, raw = uint64(binary.LittleEndian.Uint32(raw)), raw[4:]
		default:
			return bad
		}
		if err := f(int(key>>3), v, b); err != nil {
			return err
		}
	}
	return nil
}
