package gateway

import (
	"encoding/json"
	"strconv"

	"maas/internal/inference/engine"
)

// splice changes one place of a body: del bytes at `at` are left out, ins stands there instead.
type splice struct {
	at, del int
	ins     string
}

// splices are the changes of one body, ordered by place. They are applied while writing: the body itself stays as the client sent it, so that each attempt has its own.
type splices struct {
	list [8]splice
	n    int
}

func (s *splices) add(at, del int, ins string) {
	i := s.n
	for i > 0 && s.list[i-1].at > at {
		s.list[i] = s.list[i-1]
		i--
	}
	s.list[i] = splice{at, del, ins}
	s.n++
}

// quoted is a JSON string. Names of engines are plain as a rule; the rest goes the long way.
func quoted(s string) string {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			b, _ := json.Marshal(s) // a string: cannot fail
			return string(b)
		}
	}
	return `"` + s + `"`
}

// plan says how a body must change for an endpoint: its own name of the model, usage at the end of a stream, the deployment's sampling defaults where the engine does not apply them itself.
func plan(f *fields, body []byte, e *engine.Endpoint, d *engine.Defaults) splices {
	var s splices
	if string(f.name(body)) != e.Model {
		s.add(f.model.from, f.model.to-f.model.from, quoted(e.Model))
	}
	if f.stream && e.Caps.StreamUsage && e.Dialect != engine.Anthropic {
		s.usage(f, runs(e))
	}
	if e.Caps.OwnDefaults || d.Zero() {
		return s
	}
	tail := ""
	if d.MaxTokens > 0 && !f.hasMax {
		name := `,"max_tokens":`
		if e.Caps.MaxCompletion {
			name = `,"max_completion_tokens":`
		}
		tail += name + strconv.Itoa(d.MaxTokens)
	}
	if d.Temperature != nil && !f.hasTemp {
		tail += `,"temperature":` + strconv.FormatFloat(*d.Temperature, 'g', -1, 64)
	}
	if d.TopP != nil && !f.hasTopP {
		tail += `,"top_p":` + strconv.FormatFloat(*d.TopP, 'g', -1, 64)
	}
	if tail != "" {
		s.add(f.end, 0, tail)
	}
	return s
}

// runs reports whether an endpoint is an engine of this machine, which tells the usage so far with each event: then an aborted stream, and one that died with this process, is billed for what was produced.
func runs(e *engine.Endpoint) bool { return e.Network == "unix" }

// usage asks the engine for the usage event, and for usage in each event.
func (s *splices) usage(f *fields, running bool) {
	const last, each = `"include_usage":true`, `"continuous_usage_stats":true`
	want := ""
	switch {
	case f.includeUsage:
	case f.usageValue.ok():
		s.add(f.usageValue.from, f.usageValue.to-f.usageValue.from, "true")
	default:
		want = last
	}
	switch {
	case !running || f.runningUsage:
	case f.runValue.ok():
		s.add(f.runValue.from, f.runValue.to-f.runValue.from, "true")
	case want != "":
		want += "," + each
	default:
		want = each
	}
	switch {
	case want == "":
	case f.options.ok() && f.optMember:
		s.add(f.options.to-1, 0, ","+want)
	case f.options.ok():
		s.add(f.options.to-1, 0, want)
	case f.optionsNull.ok():
		s.add(f.optionsNull.from, f.optionsNull.to-f.optionsNull.from, "{"+want+"}")
	default:
		s.add(f.end, 0, `,"stream_options":{`+want+"}")
	}
}

// pieces appends the changed body to dst as slices of the old one and of the insertions.
func (s *splices) pieces(dst [][]byte, body []byte) [][]byte {
	from := 0
	for _, x := range s.list[:s.n] {
		if x.at > from {
			dst = append(dst, body[from:x.at])
		}
		if x.ins != "" {
			dst = append(dst, []byte(x.ins))
		}
		from = x.at + x.del
	}
	return append(dst, body[from:])
}
