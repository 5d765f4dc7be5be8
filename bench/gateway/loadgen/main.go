// Command loadgen loads OpenAI-compatible chat completion endpoints and says
// what they cost.
//
//	loadgen run     -t name=gw,url=http://127.0.0.1:8080,key=sk,model=m,pid=123 [options]
//	loadgen compare -t name=direct,... -t name=nginx,... -t name=ours,... [options]
//	loadgen hold    -t name=gw,...  -streams 2000
//
// compare runs the targets in turn, several rounds, so that whatever else the
// machine does falls on all of them; ratios are of medians over rounds.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"gatewaybench/internal/hist"
	"gatewaybench/internal/procstat"
)

type options struct {
	stream       bool
	conns        int
	rate         float64
	duration     time.Duration
	warmup       time.Duration
	prompt       int
	timeout      time.Duration
	includeUsage bool
	upstreamPID  int
}

// result is one round of one target; times in microseconds.
type result struct {
	Target   string             `json:"target"`
	Seconds  float64            `json:"seconds"`
	Requests uint64             `json:"requests"`
	Errors   uint64             `json:"errors"`
	NoUsage  uint64             `json:"no_usage,omitempty"`
	Dials    int                `json:"dials"`
	RPS      float64            `json:"rps"`
	ChunkPS  float64            `json:"chunks_per_s,omitempty"`
	Latency  map[string]float64 `json:"latency_us"`
	TTFT     map[string]float64 `json:"ttft_us"`
	Transit  map[string]float64 `json:"chunk_transit_us,omitempty"`
	CPUSec   float64            `json:"cpu_s,omitempty"`
	CPUReq   float64            `json:"cpu_us_per_request,omitempty"`
	CPUChunk float64            `json:"cpu_us_per_chunk,omitempty"`
	CPUShare float64            `json:"cpu_share,omitempty"`
	RSSMB    float64            `json:"rss_mb,omitempty"`
	GenShare float64            `json:"loadgen_cpu_share"`
	UpShare  float64            `json:"upstream_cpu_share,omitempty"`
	FirstErr string             `json:"first_error,omitempty"`
}

func quantiles(h *hist.Hist) map[string]float64 {
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	return map[string]float64{"p50": us(h.Quantile(.5)), "p90": us(h.Quantile(.9)), "p99": us(h.Quantile(.99)),
		"p999": us(h.Quantile(.999)), "max": us(h.Max()), "mean": us(h.Mean())}
}

// run loads t. With rate 0 every connection sends its next request as soon as
// the last is answered (closed loop). With a rate, arrivals are a fixed
// schedule: a request that has to wait for a free connection is timed from the
// moment it was due, so a slow server cannot hide its queue (no coordinated
// omission). One that a free connection merely woke up late for is timed from
// when it was sent: that lateness is the generator's own.
func run(t *target, o *options) result {
	type worker struct {
		lat, ttft, transit *hist.Hist
		ok, errs, noUsage  uint64
		chunks             uint64
		dials              int
		err                string
	}
	ws := make([]worker, o.conns)
	clients := make([]*client, o.conns)
	req := buildRequest(t, o.stream, o.prompt, o.includeUsage)
	var measuring, stop atomic.Bool
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now().Add(20 * time.Millisecond)
	period := time.Duration(0)
	if o.rate > 0 {
		period = time.Duration(float64(time.Second) / o.rate)
	}
	for i := range ws {
		w := &ws[i]
		w.lat, w.ttft, w.transit = &hist.Hist{}, &hist.Hist{}, &hist.Hist{}
		c := newClient(t, req)
		c.limit = o.timeout
		clients[i] = c
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.onLine = func(line []byte, now time.Time) {
				if s, ok := sentAt(line); ok && measuring.Load() {
					w.transit.Add(now.Sub(s))
				}
			}
			defer c.close()
			if o.stream && o.rate == 0 && o.conns > 1 { // spread the start
				time.Sleep(time.Duration(i) * min(o.warmup, time.Second) / time.Duration(o.conns))
			}
			for !stop.Load() {
				start := time.Now()
				if period > 0 {
					due := begin.Add(time.Duration(next.Add(1)-1) * period)
					if wait := due.Sub(start); wait > 0 {
						time.Sleep(wait)
						start = time.Now()
					} else {
						start = due
					}
				}
				out, err := c.do()
				end := time.Now()
				if !measuring.Load() {
					continue
				}
				switch {
				case err != nil:
					w.errs++
					if w.err == "" {
						w.err = err.Error()
					}
					time.Sleep(time.Millisecond)
				case out.status != 200 || !out.done:
					w.errs++
					if w.err == "" {
						w.err = fmt.Sprintf("status %d, done %v", out.status, out.done)
					}
					time.Sleep(time.Millisecond)
				default:
					w.ok++
					w.chunks += uint64(out.chunks)
					w.lat.Add(end.Sub(start))
					w.ttft.Add(out.first.Sub(start))
					if o.stream && !out.usage {
						w.noUsage++
					}
				}
			}
			w.dials = c.dials
		}()
	}
	time.Sleep(time.Until(begin) + o.warmup)
	pids := procstat.Tree(t.pid)
	self, up := []int{os.Getpid()}, []int{}
	if o.upstreamPID > 0 {
		up = append(up, o.upstreamPID)
	}
	cpu0, self0, up0, t0 := procstat.CPU(pids), procstat.CPU(self), procstat.CPU(up), time.Now()
	measuring.Store(true)
	time.Sleep(o.duration)
	measuring.Store(false)
	cpu, selfCPU, upCPU, wall := procstat.CPU(pids)-cpu0, procstat.CPU(self)-self0, procstat.CPU(up)-up0, time.Since(t0)
	rss := procstat.RSS(pids)
	stop.Store(true)
	if o.stream { // do not wait for long streams to end
		for _, c := range clients {
			c.abort()
		}
	}
	wg.Wait()

	r := result{Target: t.name, Seconds: wall.Seconds()}
	var lat, ttft, transit hist.Hist
	var chunks uint64
	for i := range ws {
		w := &ws[i]
		lat.Merge(w.lat)
		ttft.Merge(w.ttft)
		transit.Merge(w.transit)
		r.Requests += w.ok
		r.Errors += w.errs
		r.NoUsage += w.noUsage
		r.Dials += w.dials
		chunks += w.chunks
		if r.FirstErr == "" {
			r.FirstErr = w.err
		}
	}
	// Streams longer than a round end outside it: count chunks as they pass.
	chunks = max(chunks, transit.Count())
	r.RPS = float64(r.Requests) / r.Seconds
	r.Latency, r.TTFT = quantiles(&lat), quantiles(&ttft)
	if o.stream {
		r.ChunkPS = float64(chunks) / r.Seconds
		r.Transit = quantiles(&transit)
	}
	r.GenShare = selfCPU.Seconds() / r.Seconds
	r.UpShare = upCPU.Seconds() / r.Seconds
	if t.pid > 0 {
		r.CPUSec = cpu.Seconds()
		r.CPUShare = r.CPUSec / r.Seconds
		if r.Requests > 0 {
			r.CPUReq = r.CPUSec * 1e6 / float64(r.Requests)
		}
		if chunks > 0 {
			r.CPUChunk = r.CPUSec * 1e6 / float64(chunks)
		}
		r.RSSMB = float64(rss) / (1 << 20)
	}
	return r
}

// hold opens n streams, waits until each has its first event, and says what
// memory they take while they are open.
func hold(t *target, o *options, n int, settle time.Duration) map[string]any {
	rss0 := procstat.RSS(procstat.Tree(t.pid))
	req := buildRequest(t, true, o.prompt, o.includeUsage)
	var first, failed atomic.Int64
	clients := make([]*client, n)
	for i := range n {
		c := newClient(t, req)
		clients[i] = c
		var once sync.Once
		c.onLine = func([]byte, time.Time) { once.Do(func() { first.Add(1) }) }
		go func() {
			o, err := c.try()
			if err != nil || o.status != 200 {
				failed.Add(1)
			}
		}()
		if i%50 == 49 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	limit := time.Now().Add(20 * time.Second)
	for first.Load()+failed.Load() < int64(n) && time.Now().Before(limit) {
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(settle)
	pids := procstat.Tree(t.pid)
	rss := procstat.RSS(pids)
	open, lost := first.Load(), failed.Load()
	for _, c := range clients {
		c.abort()
	}
	m := map[string]any{"target": t.name, "open": open, "failed": lost, "rss_before_mb": float64(rss0) / (1 << 20), "rss_open_mb": float64(rss) / (1 << 20)}
	if open > 0 {
		m["kb_per_stream"] = float64(rss-rss0) / 1024 / float64(open)
	}
	return m
}

func parseTarget(s string) (*target, error) {
	t := &target{path: "/v1/chat/completions", model: "mock", key: "none"}
	for f := range strings.SplitSeq(s, ",") {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "name":
			t.name = v
		case "url":
			u, err := url.Parse(v)
			if err != nil || u.Host == "" {
				return nil, fmt.Errorf("bad url %q", v)
			}
			t.host = u.Host
			if u.Path != "" && u.Path != "/" {
				t.path = u.Path
			}
		case "key":
			t.key = v
		case "keys": // a file with one key a line
			b, err := os.ReadFile(v)
			if err != nil {
				return nil, err
			}
			t.keys = strings.Fields(string(b))
			t.key = t.keys[0]
		case "model":
			t.model = v
		case "header":
			t.extra = append(t.extra, v)
		case "pid":
			n, err := strconv.Atoi(v)
			if err != nil {
				return nil, err
			}
			t.pid = n
		default:
			return nil, fmt.Errorf("unknown field %q", k)
		}
	}
	if t.host == "" {
		return nil, fmt.Errorf("no url in %q", s)
	}
	if t.name == "" {
		t.name = t.host
	}
	return t, nil
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: loadgen run|compare|hold [options]")
		os.Exit(2)
	}
	mode := os.Args[1]
	fs := flag.NewFlagSet(mode, flag.ExitOnError)
	var o options
	var targets []*target
	fs.Func("t", "target: name=,url=,key=,model=,pid=,header= (comma-separated; repeatable)", func(s string) error {
		t, err := parseTarget(s)
		targets = append(targets, t)
		return err
	})
	fs.BoolVar(&o.stream, "stream", false, "stream the completions")
	fs.IntVar(&o.conns, "c", 1, "connections")
	fs.Float64Var(&o.rate, "rate", 0, "arrivals per second (0: closed loop)")
	fs.DurationVar(&o.duration, "d", 3*time.Second, "measured time of a round")
	fs.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "unmeasured time before it")
	fs.IntVar(&o.prompt, "prompt-bytes", 1000, "bytes of the user message")
	fs.DurationVar(&o.timeout, "timeout", 30*time.Second, "time limit of a completion")
	fs.BoolVar(&o.includeUsage, "include-usage", false, "ask for the usage chunk of a stream")
	fs.IntVar(&o.upstreamPID, "upstream-pid", 0, "pid of mockupstream, to show its CPU share")
	rounds := fs.Int("rounds", 3, "compare: rounds")
	streams := fs.Int("streams", 1000, "hold: streams to open")
	settle := fs.Duration("settle", 2*time.Second, "hold: wait before memory is read")
	base := fs.String("base", "", "compare: target the ratios are against (default: the second, or the first)")
	fs.Parse(os.Args[2:])
	if len(targets) == 0 {
		fmt.Fprintln(os.Stderr, "no -t target")
		os.Exit(2)
	}
	switch mode {
	case "run":
		*rounds = 1
		compare(targets[:1], &o, 1, "")
	case "compare":
		compare(targets, &o, *rounds, *base)
	case "hold":
		for _, t := range targets {
			m := hold(t, &o, *streams, *settle)
			b, _ := json.Marshal(m)
			fmt.Println(string(b))
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown mode", mode)
		os.Exit(2)
	}
}

// compare runs all targets in turn, rounds times.
func compare(targets []*target, o *options, rounds int, base string) {
	all := make([][]result, len(targets))
	for k := range rounds {
		for i := range targets {
			j := (i + k) % len(targets) // another order each round
			all[j] = append(all[j], run(targets[j], o))
		}
	}
	med := func(i int, f func(*result) float64) float64 {
		var v []float64
		for k := range all[i] {
			v = append(v, f(&all[i][k]))
		}
		slices.Sort(v)
		n := len(v)
		return (v[(n-1)/2] + v[n/2]) / 2
	}
	lead := 0
	if len(targets) > 1 {
		lead = 1
	}
	for i, t := range targets {
		if t.name == base {
			lead = i
		}
	}
	type summary struct {
		Target   string   `json:"target"`
		RPS      float64  `json:"rps"`
		ChunkPS  float64  `json:"chunks_per_s,omitempty"`
		P50      float64  `json:"p50_us"`
		P90      float64  `json:"p90_us"`
		P99      float64  `json:"p99_us"`
		P999     float64  `json:"p999_us"`
		TTFT50   float64  `json:"ttft_p50_us"`
		TTFT99   float64  `json:"ttft_p99_us"`
		Tr50     float64  `json:"transit_p50_us,omitempty"`
		Tr99     float64  `json:"transit_p99_us,omitempty"`
		Added50  float64  `json:"added_p50_us"`
		Added99  float64  `json:"added_p99_us"`
		CPUReq   float64  `json:"cpu_us_per_request"`
		CPUChunk float64  `json:"cpu_us_per_chunk,omitempty"`
		CPUShare float64  `json:"cpu_share"`
		RSSMB    float64  `json:"rss_mb"`
		Errors   uint64   `json:"errors"`
		Err      string   `json:"first_error,omitempty"`
		NoUsage  uint64   `json:"no_usage,omitempty"`
		Gen      float64  `json:"loadgen_cpu_share"`
		Up       float64  `json:"upstream_cpu_share"`
		CPURatio float64  `json:"cpu_ratio"`
		RPSRatio float64  `json:"rps_ratio"`
		Rounds   []result `json:"rounds,omitempty"`
	}
	sums := make([]summary, len(targets))
	for i, t := range targets {
		s := &sums[i]
		*s = summary{Target: t.name,
			RPS:      med(i, func(r *result) float64 { return r.RPS }),
			ChunkPS:  med(i, func(r *result) float64 { return r.ChunkPS }),
			P50:      med(i, func(r *result) float64 { return r.Latency["p50"] }),
			P90:      med(i, func(r *result) float64 { return r.Latency["p90"] }),
			P99:      med(i, func(r *result) float64 { return r.Latency["p99"] }),
			P999:     med(i, func(r *result) float64 { return r.Latency["p999"] }),
			TTFT50:   med(i, func(r *result) float64 { return r.TTFT["p50"] }),
			TTFT99:   med(i, func(r *result) float64 { return r.TTFT["p99"] }),
			CPUReq:   med(i, func(r *result) float64 { return r.CPUReq }),
			CPUChunk: med(i, func(r *result) float64 { return r.CPUChunk }),
			CPUShare: med(i, func(r *result) float64 { return r.CPUShare }),
			RSSMB:    med(i, func(r *result) float64 { return r.RSSMB }),
			Gen:      med(i, func(r *result) float64 { return r.GenShare }),
			Up:       med(i, func(r *result) float64 { return r.UpShare }),
		}
		if o.stream {
			s.Tr50 = med(i, func(r *result) float64 { return r.Transit["p50"] })
			s.Tr99 = med(i, func(r *result) float64 { return r.Transit["p99"] })
		}
		s.Rounds = all[i]
		for _, r := range all[i] {
			s.Errors += r.Errors
			s.NoUsage += r.NoUsage
			if s.Err == "" {
				s.Err = r.FirstErr
			}
		}
		s.Added50, s.Added99 = s.P50-sums[0].P50, s.P99-sums[0].P99
	}
	for i := range sums {
		if b := sums[lead].CPUReq; b > 0 {
			sums[i].CPURatio = sums[i].CPUReq / b
			if o.stream && sums[lead].CPUChunk > 0 {
				sums[i].CPURatio = sums[i].CPUChunk / sums[lead].CPUChunk
			}
		}
		if b := sums[lead].RPS; b > 0 {
			sums[i].RPSRatio = sums[i].RPS / b
		}
	}
	tw := tabwriter.NewWriter(os.Stderr, 0, 8, 2, ' ', tabwriter.AlignRight)
	if o.stream {
		fmt.Fprintln(tw, "target\treq/s\tchunk/s\tp50\t+p50\tp99\tttft50\tttft99\ttrans50\ttrans99\tcpu us/req\tus/chunk\tx\tshare\trss MB\terr\tno-usage\tgen\tup\t")
	} else {
		fmt.Fprintln(tw, "target\treq/s\tx\tp50\t+p50\tp90\tp99\t+p99\tp99.9\tcpu us/req\tx\tshare\trss MB\terr\tgen\tup\t")
	}
	for _, s := range sums {
		if o.stream {
			fmt.Fprintf(tw, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.2f\t%.2f\t%.2f\t%.1f\t%d\t%d\t%.2f\t%.2f\t\n",
				s.Target, s.RPS, s.ChunkPS, s.P50, s.Added50, s.P99, s.TTFT50, s.TTFT99, s.Tr50, s.Tr99, s.CPUReq, s.CPUChunk, s.CPURatio, s.CPUShare, s.RSSMB, s.Errors, s.NoUsage, s.Gen, s.Up)
		} else {
			fmt.Fprintf(tw, "%s\t%.0f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.2f\t%.2f\t%.1f\t%d\t%.2f\t%.2f\t\n",
				s.Target, s.RPS, s.RPSRatio, s.P50, s.Added50, s.P90, s.P99, s.Added99, s.P999, s.CPUReq, s.CPURatio, s.CPUShare, s.RSSMB, s.Errors, s.Gen, s.Up)
		}
		if s.Err != "" {
			defer fmt.Fprintf(os.Stderr, "%s: first error: %s\n", s.Target, s.Err)
		}
	}
	tw.Flush()
	out := map[string]any{"mode": "compare", "stream": o.stream, "conns": o.conns, "rate": o.rate, "seconds": o.duration.Seconds(),
		"rounds": rounds, "prompt_bytes": o.prompt, "base": targets[lead].name, "targets": sums}
	if len(targets) == 1 {
		out["mode"] = "run"
		out["result"] = all[0][0]
	}
	b, _ := json.Marshal(out)
	fmt.Println(string(b))
}
