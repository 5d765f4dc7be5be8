package token

import "unicode/utf8"

// scorer is the SentencePiece form of merging: neighbours join if the joined text is a token, the highest score first, leftmost on ties.
type scorer struct {
	t     *Tokenizer
	ids   map[string]int32 // normal, user-defined and unused tokens by text
	bytes [256]int32
	unk   int32
}

type piece struct {
	start, size int32 // size 0 = merged into the one before
	prev, next  int32
}

type joint struct {
	score       float32
	left, right int32
	size        int32 // of both together: differs from the pieces' when the joint is stale
}

func (j joint) before(k joint) bool {
	return j.score > k.score || j.score == k.score && j.left < k.left
}

// encode appends the ids of w, in which spaces are U+2581.
func (m *scorer) encode(dst []int32, w string, sc *scratch) []int32 {
	if id, ok := m.ids[w]; ok && len(w) <= utf8.UTFMax && utf8.RuneCountInString(w) == 1 {
		return append(dst, id)
	}
	pieces, queue := sc.pieces[:0], sc.joints[:0]
	for i := 0; i < len(w); {
		_, n := utf8.DecodeRuneInString(w[i:])
		k := int32(len(pieces))
		pieces = append(pieces, piece{int32(i), int32(n), k - 1, k + 1})
		i += n
	}
	pieces[len(pieces)-1].next = -1
	try := func(left, right int32) {
		if left < 0 || right < 0 {
			return
		}
		size := pieces[left].size + pieces[right].size
		if id, ok := m.ids[w[pieces[left].start:pieces[left].start+size]]; ok {
			queue = push(queue, joint{m.t.tokens[id].score, left, right, size})
		}
	}
	for i := int32(1); int(i) < len(pieces); i++ {
		try(i-1, i)
	}
	for len(queue) > 0 {
		var j joint
		j, queue = pop(queue)
		l, r := &pieces[j.left], &pieces[j.right]
		if l.size == 0 || r.size == 0 || l.size+r.size != j.size {
			continue
		}
		l.size += r.size
		r.size = 0
		if l.next = r.next; l.next >= 0 {
			pieces[l.next].prev = j.left
		}
		try(l.prev, j.left)
		try(j.left, l.next)
	}
	unknown := false
	for i := int32(0); i >= 0; i = pieces[i].next {
		text := w[pieces[i].start : pieces[i].start+pieces[i].size]
		id, ok := m.ids[text]
		if ok {
			dst = append(dst, id)
		} else {
			dst = m.spell(dst, text, unknown)
		}
		unknown = !ok
	}
	sc.pieces, sc.joints = pieces, queue
	return dst
}

// spell appends a rune that is no token as bytes, or as the unknown token once for a run of such runes.
func (m *scorer) spell(dst []int32, text string, again bool) []int32 {
	from := len(dst)
	for i := range len(text) {
		id := m.bytes[text[i]]
		if id < 0 {
			dst = dst[:from]
			if m.unk >= 0 && !again {
				dst = append(dst, m.unk)
			}
			return dst
		}
		dst = append(dst, id)
	}
	return dst
}
