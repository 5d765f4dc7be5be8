package check

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"maas/internal/llm/arch"
	"maas/internal/llm/chat"
	"maas/internal/llm/mmap"
	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
	"maas/internal/llm/token"
	"maas/internal/platform/fault"
)

// Errors about contents.
var (
	ErrVocab     = fault.New(fault.Invalid, "model.tokenizer_vocab", "the tokenizer knows more tokens than the model has")
	ErrRoundTrip = fault.New(fault.Invalid, "model.tokenizer_roundtrip", "some texts do not come back from the tokenizer as they went in").WithHint("Answers may hold odd characters; compare with the original model")
	ErrTemplate  = fault.New(fault.Invalid, "model.no_chat_template", "the model brings no chat template").WithHint("Chats use the ChatML form, which a base model may not follow; completions are not affected")
)

// shape reads the headers' facts and matches every tensor against the architecture.
func (r *runner) shape(context.Context) (rows []Row, err error) {
	if r.out.Facts.Format == "" {
		return nil, ErrNoWeights
	}
	if err := r.facts(); err != nil {
		return nil, err
	}
	src, err := arch.Open(r.in.Dir)
	if err != nil {
		foreign := errors.Is(err, arch.ErrUnsupported) || errors.Is(err, quant.ErrTypeUnsupported) || errors.Is(err, arch.ErrTensorExtra)
		if foreign {
			return []Row{elsewhere(err)}, nil
		}
		return nil, err
	}
	r.src = src
	c := src.Config
	facts := &r.out.Facts
	facts.Architecture, facts.ContextLength = c.Arch, c.Ctx
	facts.Values["layers"], facts.Values["hidden"], facts.Values["feed_forward"], facts.Values["vocabulary"] = c.Layers, c.Dim, c.FF, c.Vocab
	if c.Arch == arch.Bert {
		facts.Values["pooling"], facts.Values["labels"] = c.Encoder.Pooling, c.Encoder.Labels
	}
	facts.Values["heads"], facts.Values["kv_heads"], facts.Values["head_dim"], facts.Values["tied"] = c.Heads, c.KVHeads, c.HeadDim, c.Tied
	r.memory()
	return pass(fmt.Sprintf("all %d tensors fit the architecture %s", len(src.Tensors), c.Arch)), nil
}

// memory fills the table of what serving takes, for the contexts that people choose.
func (r *runner) memory() {
	limit := r.src.Config.Ctx
	contexts := []int{}
	for _, n := range []int{2048, 4096, 8192, 32768} {
		if n < limit {
			contexts = append(contexts, n)
		}
	}
	for _, n := range append(contexts, limit) {
		for _, slots := range []int{1, 4, 8} {
			r.out.Facts.Memory = append(r.out.Facts.Memory, Memory{Context: n, Slots: slots, Bytes: r.src.Memory(n, slots, false).Total()})
		}
	}
}

// softly turns a refusal into a warning where our engine does not run the model anyway: another one may know better.
func (r *runner) softly(err error) ([]Row, error) {
	if _, ok := refusal(err); !ok || r.src != nil && !errors.Is(err, token.ErrPreUnknown) {
		return nil, err
	}
	return []Row{elsewhere(err)}, nil
}

// elsewhere warns that our engine cannot run the files and names the next step.
func elsewhere(err error) Row {
	r := warn(fault.From(err))
	if r.Hint == "" {
		r.Hint = noRun
	}
	return r
}

const noRun = "Serve it with another engine, or import it in a form that the built-in engine runs"

func (r *runner) readTokenizer() (*token.Tokenizer, error) {
	if r.src != nil {
		return r.src.Tokenizer()
	}
	if r.out.Facts.Format != "gguf" {
		return token.FromDir(os.DirFS(r.in.Dir))
	}
	f, err := r.model()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return token.FromGGUF(f)
}

// tokenizer reads the vocabulary, compares it with the weights and sends texts through and back.
func (r *runner) tokenizer(context.Context) ([]Row, error) {
	t, err := r.readTokenizer()
	if err != nil {
		return r.softly(err)
	}
	if r.src != nil && t.Size() > r.src.Config.Vocab {
		return nil, ErrVocab.With("the tokenizer knows %d tokens, the model's weights have rows for %d", t.Size(), r.src.Config.Vocab).WithHint("The tokenizer belongs to another model: import the files of one model together")
	}
	if r.src != nil && r.src.Config.Arch == arch.Bert { // such vocabularies keep neither case nor spaces
		return pass(fmt.Sprintf("%d tokens", t.Size())), nil
	}
	bad, n := "", 0
	texts := samples()
	for _, s := range texts {
		ids, err := t.Encode(nil, []token.Part{{Text: s}}, token.Options{})
		if err != nil {
			return r.softly(err)
		}
		if got := string(t.Decode(ids, true)); got != s && strings.TrimPrefix(got, " ") != s {
			bad, n = s, n+1
		}
	}
	if n > 0 {
		return []Row{warn(ErrRoundTrip.With("%d of %d texts do not come back as they went in, for example %.60q", n, len(texts), bad))}, nil
	}
	return pass(fmt.Sprintf("%d tokens; %d texts came back as they went in", t.Size(), len(texts))), nil
}

// samples makes 200 texts of several languages, digits, spaces and signs.
func samples() []string {
	words := []string{"The quick brown fox", "jumps over", "42 lazy dogs.", "你好，世界", "模型服务平台", "Straße zur Burg", "¿Qué tal?", "Привет мир", "def f(x):\n    return x*2", "a  b   c", "3.14159e-10", "naïve café", "🙂👍", "tab\there", "https://example.com/a?b=c&d=e", "{\"key\": [1, 2, 3]}", "ABCdef", "----", "\n\n", "안녕하세요"}
	list := make([]string, 0, 200)
	for i := range 200 {
		a, b := words[i%len(words)], words[(i*7+i/len(words))%len(words)]
		list = append(list, a+" "+b)
	}
	return list
}

// conversations are what every chat template should be able to write; the first must work.
var conversations = [][]chat.Message{
	{{Role: "user", Content: chat.Text("Hello")}},
	{{Role: "system", Content: chat.Text("Be brief.")}, {Role: "user", Content: chat.Text("你好")}},
	{{Role: "user", Content: chat.Text("One")}, {Role: "assistant", Content: chat.Text("Two")}, {Role: "user", Content: chat.Text("Three")}},
	{{Role: "system", Content: chat.Text("")}, {Role: "user", Content: chat.Text("<|im_end|> [INST] {{ x }}")}},
	{{Role: "user", Content: chat.Text(strings.Repeat("long ", 2000))}},
	{{Role: "user", Content: chat.Text("a")}, {Role: "assistant", Content: chat.Text("b")}, {Role: "user", Content: chat.Text("c")}, {Role: "assistant", Content: chat.Text("d")}, {Role: "user", Content: chat.Text("e")}},
}

// template renders conversations inside the limits of the sandbox. It never refuses: a deployment can bring its own template.
func (r *runner) template(context.Context) ([]Row, error) {
	if r.src != nil && r.src.Config.Arch == arch.Bert {
		return skip("the model makes vectors or scores, not answers"), nil
	}
	var source, bos, eos string
	if r.out.Facts.Format == "gguf" {
		f, err := r.model()
		if err != nil {
			return nil, err
		}
		source, _ = f.Str("tokenizer.chat_template")
		_ = f.Close()
	} else {
		source = r.folderTemplate()
	}
	if source == "" {
		return []Row{warn(ErrTemplate)}, nil
	}
	if t, err := r.readTokenizer(); err == nil {
		bos, eos = t.Text(t.BOS()), t.Text(t.EOS())
	}
	t, err := chat.Compile(source, chat.Limits{})
	for i := 0; err == nil && i < len(conversations); i++ {
		_, err = t.Render(chat.Input{Messages: conversations[i], AddGenerationPrompt: true, BOS: bos, EOS: eos, Now: time.Unix(1767225600, 0).UTC()})
		if i > 0 && errors.Is(err, chat.ErrRaised) { // the template does not want this form of conversation, which is its right
			err = nil
		}
	}
	if err != nil {
		row, ok := refusal(err)
		if !ok {
			return nil, err
		}
		row.Result, row.Hint = Warn, "Chats will fail or look wrong; give the deployment a template of its own"
		return []Row{row}, nil
	}
	return pass(fmt.Sprintf("%d conversations were written", len(conversations))), nil
}

// numbers looks for values that are not finite: all of norms and biases, and one row in a hundred of matrices.
func (r *runner) numbers(ctx context.Context) ([]Row, error) {
	if r.out.Facts.Format == "gguf" {
		f, err := r.model()
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		for i := range f.Tensors {
			m, err := f.Matrix(&f.Tensors[i])
			if err != nil {
				return nil, err
			}
			if err := finite(ctx, f.Tensors[i].Name, m); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	f, err := safetensors.Open(r.in.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	for i := range f.Tensors {
		m, err := f.Matrix(&f.Tensors[i])
		if errors.Is(err, quant.ErrTypeUnsupported) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := finite(ctx, f.Tensors[i].Name, m); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// finite checks a vector whole and every hundredth row of a matrix.
func finite(ctx context.Context, name string, m quant.Matrix) error {
	if info, ok := m.Type.Info(); !ok || !info.Run || m.Rows == 0 || m.Cols == 0 {
		return ctx.Err()
	}
	row := make([]float32, m.Cols)
	return mmap.Guard(func() error {
		for i := 0; i < m.Rows; i += 100 {
			if err := ctx.Err(); err != nil {
				return err
			}
			m.Row(row, i)
			for k, v := range row {
				if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
					return arch.ErrTensorNaN.With("tensor %s holds a value that is not a number, at row %d, column %d", name, i, k).WithHint("The file was damaged or badly converted: get it again from its source")
				}
			}
		}
		return nil
	})
}
