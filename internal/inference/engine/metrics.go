package engine

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"
)

// metricNames maps the names engines publish to what we keep: vLLM's (old and new spelling), llama-server's and SGLang's.
var metricNames = map[string]func(l *Load, v float64){
	"vllm:num_requests_running":       func(l *Load, v float64) { l.Running += int(v) },
	"vllm:num_requests_waiting":       func(l *Load, v float64) { l.Waiting += int(v) },
	"vllm:kv_cache_usage_perc":        func(l *Load, v float64) { l.KVUsage = max(l.KVUsage, v) },
	"vllm:gpu_cache_usage_perc":       func(l *Load, v float64) { l.KVUsage = max(l.KVUsage, v) },
	"vllm:prompt_tokens_total":        func(l *Load, v float64) { l.PromptTokens += int64(v) },
	"vllm:generation_tokens_total":    func(l *Load, v float64) { l.GenerationTokens += int64(v) },
	"vllm:prefix_cache_hits_total":    func(l *Load, v float64) { l.CachedTokens += int64(v) },
	"vllm:request_success_total":      func(l *Load, v float64) { l.Requests += int64(v) },
	"llamacpp:requests_processing":    func(l *Load, v float64) { l.Running += int(v) },
	"llamacpp:requests_deferred":      func(l *Load, v float64) { l.Waiting += int(v) },
	"llamacpp:kv_cache_usage_ratio":   func(l *Load, v float64) { l.KVUsage = max(l.KVUsage, v) },
	"llamacpp:prompt_tokens_total":    func(l *Load, v float64) { l.PromptTokens += int64(v) },
	"llamacpp:tokens_predicted_total": func(l *Load, v float64) { l.GenerationTokens += int64(v) },
	"sglang:num_running_reqs":         func(l *Load, v float64) { l.Running += int(v) },
	"sglang:num_queue_reqs":           func(l *Load, v float64) { l.Waiting += int(v) },
	"sglang:token_usage":              func(l *Load, v float64) { l.KVUsage = max(l.KVUsage, v) },
}

// ParseMetrics reads a Prometheus text page. False when it holds none of the names that engines are known by. Lines that are not understood are passed over.
func ParseMetrics(page []byte) (Load, bool) {
	var l Load
	known := false
	sc := bufio.NewScanner(bytes.NewReader(page))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest := line, ""
		if i := strings.IndexAny(line, "{ "); i > 0 {
			name, rest = line[:i], line[i:]
		}
		set := metricNames[name]
		if set == nil {
			continue
		}
		if i := strings.LastIndexByte(rest, '}'); i >= 0 { // a label's value may hold blanks, and a brace inside quotes ends before the last one
			rest = rest[i+1:]
		}
		value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || v != v {
			continue
		}
		set(&l, v)
		known = true
	}
	return l, known
}
