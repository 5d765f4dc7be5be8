package chat

import (
	"fmt"
	"strconv"
	"strings"
)

// format is Python's str.format with fields {}, {0}, {name} and simple specifications.
func (r *renderer) format(f str, a callArgs) (value, error) {
	var b rope
	auto := 0
	for pos := 0; pos < len(f.s); {
		i := strings.IndexAny(f.s[pos:], "{}")
		if i < 0 {
			b.add(f.slice(pos, len(f.s)))
			break
		}
		i += pos
		b.add(f.slice(pos, i))
		if i+1 < len(f.s) && f.s[i+1] == f.s[i] {
			b.add(f.slice(i, i+1))
			pos = i + 2
			continue
		}
		end := strings.IndexByte(f.s[i:], '}')
		if f.s[i] == '}' || end < 0 {
			return nil, failed("a format has a brace without its pair")
		}
		name, spec, _ := strings.Cut(f.s[i+1:i+end], ":")
		pos = i + end + 1
		v, ok := a.get(auto, "")
		if name == "" {
			auto++
		} else if n, err := strconv.Atoi(name); err == nil && n >= 0 {
			v, ok = a.get(n, "")
		} else {
			v, ok = callArgs{named: a.named}.get(0, name)
		}
		if !ok {
			return nil, failed("a format has no value for field %.40q", name)
		}
		t, err := r.formatted(v, spec)
		if err != nil {
			return nil, err
		}
		if b.add(t); b.len() > r.limits.Output {
			return nil, r.tooLong()
		}
	}
	return r.made(b.str())
}

// formatted applies a specification like 5, 02d or .2f.
func (r *renderer) formatted(v value, spec string) (str, error) {
	if spec == "" {
		return r.text(v)
	}
	body := strings.TrimRight(spec, "dfs")
	kind := spec[len(body):]
	if len(body) > 6 || strings.Trim(body, "0123456789.") != "" || len(kind) > 1 {
		return str{}, failed("the format %.40q is not supported", spec)
	}
	if width, _ := strconv.Atoi(strings.SplitN(body, ".", 2)[0]); width > 1000 {
		return str{}, failed("the format %.40q is too wide", spec)
	}
	if i, ok := asInt(v); ok && kind != "f" && kind != "s" && !strings.Contains(body, ".") {
		return lit(fmt.Sprintf("%"+body+"d", i)), nil
	}
	if f, ok := asNumber(v); ok && kind == "f" && len(body) < 5 {
		return lit(fmt.Sprintf("%"+body+"f", f)), nil
	}
	if s, ok := v.(str); ok && kind != "d" && kind != "f" && !strings.Contains(body, ".") {
		return concat(s, lit(strings.Repeat(" ", max(0, atoi(body)-len([]rune(s.s)))))), nil
	}
	return str{}, failed("the format %.40q does not fit %s", spec, typeName(v))
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// percent is Python's f % x with %s, %d, %r and %f.
func (r *renderer) percent(f str, x value) (value, error) {
	vals := []value{x}
	if l, ok := x.(*list); ok && l.tuple {
		vals = l.items
	}
	var b rope
	for pos := 0; pos < len(f.s); {
		i := strings.IndexByte(f.s[pos:], '%')
		if i < 0 {
			b.add(f.slice(pos, len(f.s)))
			break
		}
		i += pos
		b.add(f.slice(pos, i))
		end := i + 1
		for end < len(f.s) && strings.IndexByte("0123456789.", f.s[end]) >= 0 {
			end++
		}
		if end == len(f.s) {
			return nil, failed("a format ends within a field")
		}
		pos = end + 1
		if f.s[end] == '%' {
			b.add(f.slice(end, end+1))
			continue
		}
		if len(vals) == 0 {
			return nil, failed("a format has more fields than values")
		}
		t, err := r.percentField(f.s[i+1:end], f.s[end], vals[0])
		if err != nil {
			return nil, err
		}
		vals = vals[1:]
		if b.add(t); b.len() > r.limits.Output {
			return nil, r.tooLong()
		}
	}
	if len(vals) > 0 && len(f.s) > 0 {
		if _, isDict := x.(*dict); !isDict {
			return nil, failed("a format has fewer fields than values")
		}
	}
	return r.made(b.str())
}

func (r *renderer) percentField(spec string, kind byte, v value) (str, error) {
	switch kind {
	case 's':
		if spec == "" {
			return r.text(v)
		}
	case 'r':
		s, err := r.repr(v)
		return str{s: s, t: !holdsForeign(v, 0)}, err
	case 'd', 'i':
		if f, ok := v.(float64); ok {
			v = int64(f)
		}
		if i, ok := asInt(v); ok {
			return r.formatted(i, spec+"d")
		}
	case 'f':
		if spec == "" {
			spec = ".6"
		}
		return r.formatted(v, spec+"f")
	}
	return str{}, failed("the format %%%.10s%c is not supported here", spec, kind)
}

// filterFormat is the filter of the same name: x|format(a, b) is x % (a, b).
func filterFormat(r *renderer, x value, a callArgs) (value, error) {
	s, err := r.text(x)
	if err != nil {
		return nil, err
	}
	return r.percent(s, &list{items: a.pos, tuple: true})
}
