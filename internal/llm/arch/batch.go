package arch

// PageTokens is how many positions one page of the key/value cache holds.
const PageTokens = 32

// Span is a run of consecutive positions of one sequence inside a batch.
type Span struct {
	Row   int     // first row in Batch.Tokens
	Len   int     // rows
	Pos   int     // position of the first row; all earlier ones are in the pages
	Pages []int32 // page numbers for positions 0..Pos+Len-1, in order
}

// Batch is the input and output of one forward pass: any mix of prompts' chunks and single decoding steps. Reuse it; Forward does not keep it.
type Batch struct {
	Tokens []int32
	Spans  []Span  // together all rows, in order
	Out    []int32 // rows whose logits are wanted, rising
	Logits []float32
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Tokens, b.Spans, b.Out, b.Logits = b.Tokens[:0], b.Spans[:0], b.Out[:0], nil
}

// Row returns the logits of Out[i] after Forward: [Vocab], valid until the next Forward, changeable.
func (b *Batch) Row(i int) []float32 {
	n := len(b.Logits) / len(b.Out)
	return b.Logits[i*n : (i+1)*n : (i+1)*n]
}
