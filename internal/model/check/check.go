// Package check looks at the files of a model version and says, check by check, whether they can be trusted and what they are.
//
// The checks run in a fixed order, cheap ones first; the first reject ends them, the rest is noted as skipped. A reject means broken or dangerous files. What our own engine cannot run is a warning: another
// engine may. Files are read with bounded readers only and nothing of them is ever executed.
package check

import (
	"context"
	"errors"
	"time"

	"maas/internal/llm/arch"
	"maas/internal/platform/fault"
)

// Version of the checks whose verdict on one blob is remembered: raising it has files read again.
const Version = 1

// Result of a check.
type Result string

// The results.
const (
	Pass   Result = "pass"
	Warn   Result = "warn"
	Reject Result = "reject"
	Skip   Result = "skip"
)

// Row is the outcome of one check, in words for people.
type Row struct {
	ID      string `json:"id"`
	Result  Result `json:"result"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Path    string `json:"path"`
	Detail  string `json:"detail"`
	Hint    string `json:"hint"`
	MS      int64  `json:"ms"`
}

// File is one file of the version. It lies under Input.Dir at Path.
type File struct {
	Path   string
	Size   int64
	SHA256 string
}

// Input is what to check.
type Input struct {
	Dir      string                          // folder with the files
	Files    []File                          // sorted by path
	Known    func(sha256, check string) bool // did this check of this Version pass on such bytes before?
	Progress func(done, total int64)         // bytes read
}

// Facts are what the headers say.
type Facts struct {
	Format        string // gguf, safetensors
	Architecture  string
	Parameters    int64
	ContextLength int
	Quantization  string
	Values        map[string]any
	Memory        []Memory
}

// Memory is what serving takes.
type Memory struct {
	Context, Slots int
	Bytes          int64
}

// Seen is a check that passed on bytes.
type Seen struct{ SHA256, Check string }

// Output is the verdict.
type Output struct {
	Status string // ready, warned, rejected
	Rows   []Row
	Facts  Facts
	Passed []Seen
}

// First returns the first row with the result, nil if there is none.
func (o Output) First(r Result) *Row {
	for i := range o.Rows {
		if o.Rows[i].Result == r {
			return &o.Rows[i]
		}
	}
	return nil
}

type runner struct {
	in    Input
	out   *Output
	src   *arch.Source // nil unless the shape check opened it
	total int64        // bytes that the hash check reads
	done  int64
}

type step struct {
	id  string
	run func(*runner, context.Context) ([]Row, error)
}

// steps in their order. A step returns its rows; none = passed without a word.
var steps = []step{
	{"names", (*runner).names},
	{"pickle", (*runner).pickle},
	{"hash", (*runner).hash},
	{"safetensors", (*runner).safetensors},
	{"gguf", (*runner).gguf},
	{"shape", (*runner).shape},
	{"tokenizer", (*runner).tokenizer},
	{"template", (*runner).template},
	{"numbers", (*runner).numbers},
}

// Run checks the files. The error is for what says nothing about them: an unreadable disk, the end of ctx.
func Run(ctx context.Context, in Input) (Output, error) {
	out := Output{Status: "ready", Facts: Facts{Values: map[string]any{}}}
	r := &runner{in: in, out: &out}
	defer func() {
		if r.src != nil {
			_ = r.src.Close()
		}
	}()
	for _, s := range steps {
		if out.Status == "rejected" {
			out.Rows = append(out.Rows, Row{ID: s.id, Result: Skip, Message: "not run, because an earlier check refused the files"})
			continue
		}
		start := time.Now()
		rows, err := s.run(r, ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			row, ok := refusal(err)
			if !ok {
				return out, err
			}
			rows = append(rows, row)
		}
		if len(rows) == 0 {
			rows = []Row{{Result: Pass, Message: "in order"}}
		}
		for _, row := range rows {
			row.ID, row.MS = s.id, time.Since(start).Milliseconds()
			out.Rows = append(out.Rows, row)
			switch {
			case row.Result == Reject:
				out.Status = "rejected"
			case row.Result == Warn && out.Status == "ready":
				out.Status = "warned"
			}
		}
	}
	return out, nil
}

// refusal turns an error about the files into a row. Errors about anything else are not.
func refusal(err error) (Row, bool) {
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.Invalid {
		return Row{}, false
	}
	return reject(e), true
}

func row(result Result, e *fault.Error) Row {
	r := Row{Result: result, Code: e.Code, Message: e.Text(), Hint: e.Hint}
	for i, f := range e.Fields {
		if i == 8 {
			r.Detail += "; ..."
			break
		}
		if i > 0 {
			r.Detail += "; "
		}
		r.Detail += f.Name + " " + f.Message
	}
	return r
}

// damaged is the next step where the error knows no better one.
const damaged = "The file is damaged or was written by a faulty program: get it again from its source"

func reject(e *fault.Error) Row {
	r := row(Reject, e)
	if r.Hint == "" {
		r.Hint = damaged
	}
	return r
}

func warn(e *fault.Error) Row { return row(Warn, e) }

func (r Row) at(path string) Row {
	r.Path = path
	return r
}

func skip(words string) []Row { return []Row{{Result: Skip, Message: words}} }

func pass(words string) []Row { return []Row{{Result: Pass, Message: words}} }
