package modelgen

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Token types of GGUF vocabularies.
const (
	typeNormal  int32 = 1
	typeUnknown int32 = 2
	typeControl int32 = 3
	typeByte    int32 = 6
)

// vocab is a made-up vocabulary. For ByteBPE tokens are in GPT-2's printable byte letters, for SPM pieces with U+2581 for a space.
type vocab struct {
	spm       bool
	tokens    []string
	types     []int32
	scores    []float32   // SPM: the better, the earlier; control and byte tokens 0
	merges    [][2]string // in order of rank
	bos, eos  int
	unk       int   // SPM only, else -1
	next      []int // the successor of each token: Successor and Demo; -1 = the model's first word
	first     int   // the first word
	index     map[string]int
	demoWords []string
}

// byteLetters maps bytes to the printable characters that byte-level BPE files use: printable Latin-1 stands for itself, the rest follows from U+0100 on.
var byteLetters = func() (t [256]rune) {
	n := rune(256)
	for b := range t {
		r := rune(b)
		if r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae && r <= 0xff {
			t[b] = r
			continue
		}
		t[b] = n
		n++
	}
	return t
}()

func letters(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(byteLetters[s[i]])
	}
	return b.String()
}

func (v *vocab) add(tok string, typ int32) int {
	id := len(v.tokens)
	v.tokens = append(v.tokens, tok)
	v.types = append(v.types, typ)
	v.index[tok] = id
	return id
}

const specials = 3 // of ByteBPE, at the end

func newVocab(s Spec) (*vocab, error) {
	v := &vocab{spm: s.Tokenizer == SPM, unk: -1, index: map[string]int{}}
	if v.spm {
		v.startSPM()
	} else {
		v.startBPE()
	}
	room := s.Vocab - len(v.tokens) - specials
	if v.spm {
		room = s.Vocab - len(v.tokens) - 2
	}
	if s.Kind != Demo && room < 8 {
		return nil, ErrSpec.With("a vocabulary of %d is too small; %d is the least", s.Vocab, s.Vocab-room+8)
	}
	switch s.Kind {
	case Demo:
		v.demo()
	case Successor:
		v.numbers(min(room, s.Dim-2, 999))
		v.words(room - min(room, s.Dim-2, 999))
	default:
		v.words(room)
	}
	v.end()
	if s.Kind != Random {
		v.successors()
	}
	if v.spm {
		v.score()
	}
	return v, nil
}

func (v *vocab) startBPE() {
	for b := range 256 {
		v.add(string(byteLetters[b]), typeNormal)
	}
}

func (v *vocab) startSPM() {
	v.unk = v.add("<unk>", typeUnknown)
	v.bos = v.add("<s>", typeControl)
	v.eos = v.add("</s>", typeControl)
	for b := range 256 {
		v.add("<0x"+strings.ToUpper(strconv.FormatInt(int64(256+b), 16)[1:])+">", typeByte)
	}
	v.add("\u2581", typeNormal)
	for c := '0'; c <= '9'; c++ {
		v.add(string(c), typeNormal)
	}
}

// end appends the control tokens.
func (v *vocab) end() {
	if !v.spm {
		v.bos = v.add("<|endoftext|>", typeControl)
	}
	v.add("<|im_start|>", typeControl)
	v.eos = v.add("<|im_end|>", typeControl)
}

// space is how a leading space looks inside a token.
func (v *vocab) space() string {
	if v.spm {
		return "\u2581"
	}
	return string(byteLetters[' '])
}

// merge adds the token a+b with its merge. Both halves are there.
func (v *vocab) merge(a, b string) {
	if _, ok := v.index[a+b]; ok {
		return
	}
	v.add(a+b, typeNormal)
	v.merges = append(v.merges, [2]string{a, b})
}

// numbers adds " 1" to " n", each made of the number without its last digit, and that digit.
func (v *vocab) numbers(n int) {
	for i := 1; i <= n; i++ {
		t := strconv.Itoa(i)
		v.merge(v.space()+t[:len(t)-1], t[len(t)-1:])
	}
}

// words adds n merges: common words letter by letter first, then every combination of letters in order.
func (v *vocab) words(n int) {
	if v.spm { // letters are not there yet
		for c := 'a'; c <= 'z' && n > 0; c, n = c+1, n-1 {
			v.add(string(c), typeNormal)
		}
	}
	full := len(v.tokens) + n
	grow := func(head string, w string) {
		for _, r := range w {
			if len(v.tokens) == full {
				return
			}
			if _, ok := v.index[string(r)]; !ok || head == "" {
				head = string(r)
				continue
			}
			v.merge(head, string(r))
			head += string(r)
		}
	}
	for w := range strings.FieldsSeq("the of and to in is that for it with as was on be at by this have from or one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just where most know") {
		grow(v.space(), w)
		grow("", w)
	}
	for length := 2; len(v.tokens) < full; length++ {
		for i := range pow(26, length) {
			if len(v.tokens) == full {
				break
			}
			w := make([]byte, length)
			for j := length - 1; j >= 0; j-- {
				w[j] = 'a' + byte(i%26)
				i /= 26
			}
			grow("", string(w))
		}
	}
}

func pow(b, n int) int {
	p := 1
	for range n {
		p *= b
	}
	return p
}

// demo adds the words of the answer. The network sees only the last token, so no token may come twice: a word that was there already is joined with the next one.
func (v *vocab) demo() {
	var held string
	for _, w := range strings.SplitAfter(DemoAnswer, " ") {
		held += w
		tok := letters(strings.TrimSuffix(held, " "))
		if len(v.demoWords) > 0 {
			tok = letters(" ") + tok
		}
		if _, ok := v.index[tok]; ok {
			continue
		}
		held = ""
		v.add(tok, typeNormal)
		v.demoWords = append(v.demoWords, tok)
	}
}

// successors fills next: who follows whom.
func (v *vocab) successors() {
	v.next = slices.Repeat([]int{-1}, len(v.tokens))
	if len(v.demoWords) > 0 {
		v.first = v.index[v.demoWords[0]]
		for i, w := range v.demoWords[1:] {
			v.next[v.index[v.demoWords[i]]] = v.index[w]
		}
		v.next[v.index[v.demoWords[len(v.demoWords)-1]]] = v.eos
		return
	}
	v.first = v.index[v.space()+"1"]
	for n := 1; ; n++ {
		t := strconv.Itoa(n)
		id, ok := v.index[v.space()+t]
		if !ok {
			return
		}
		follow, more := v.index[v.space()+strconv.Itoa(n+1)]
		if !more {
			follow = v.eos
		}
		v.next[id] = follow
		if bare, ok := v.index[t]; ok {
			v.next[bare] = follow
		}
	}
}

// score gives SPM pieces their rank as score, and lists every pair of pieces that makes a piece, as tokenizer.json files of this kind do.
func (v *vocab) score() {
	v.scores = make([]float32, len(v.tokens))
	v.merges = nil
	for id, t := range v.tokens {
		if v.types[id] != typeNormal {
			continue
		}
		v.scores[id] = -float32(id)
		for i := range t {
			if i == 0 || !utf8.RuneStart(t[i]) {
				continue
			}
			a, okA := v.index[t[:i]]
			b, okB := v.index[t[i:]]
			if okA && okB && v.types[a] == typeNormal && v.types[b] == typeNormal {
				v.merges = append(v.merges, [2]string{t[:i], t[i:]})
			}
		}
	}
}
