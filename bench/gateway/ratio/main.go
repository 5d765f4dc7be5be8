// Command ratio compares maas with nginx as a plain proxy in one interleaved run and prints a table of ratios: CPU per request, CPU per streamed event, memory of an idle open stream, all features against bare
// pass-through, 100,000 keys against 100.
//
//	ratio -maas bin/maas [-quick] [-check ratios.json] [-write ratios.json] [-profile cpu.pprof]
//
// Everything listens on free ports of 127.0.0.1 and is stopped at the end. CPU is user and system time of the processes (kernel accounting), so it holds on a machine that others use too. The table has medians over
// the rounds; the check takes the best round, of both sides at about the same time, for what others do at that time only adds.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// figure is one line of the table, and of the file of ratios.
type figure struct {
	Name   string  `json:"name"`
	What   string  `json:"what"`
	Ours   float64 `json:"ours"`
	Base   float64 `json:"base"`
	Unit   string  `json:"unit"`
	Ratio  float64 `json:"ratio"`
	Best   float64 `json:"best"` // ratio of the best round
	Target float64 `json:"target"`
}

type bench struct {
	dir, maas, root string
	rounds          int
	d               time.Duration
	quick           bool
	profile         string

	ctx     context.Context
	procs   []*exec.Cmd
	mock    string // host:port
	mockPID int
	nginx   target
	figures []figure
}

type target struct {
	name, url, key, keys string
	pid                  int
}

func (t target) String() string {
	s := fmt.Sprintf("name=%s,url=%s,key=%s,model=mock,pid=%d", t.name, t.url, t.key, t.pid)
	if t.keys != "" {
		s += ",keys=" + t.keys
	}
	return s
}

func main() {
	b := bench{}
	flag.StringVar(&b.maas, "maas", "bin/maas", "binary to measure")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of each comparison")
	flag.DurationVar(&b.d, "d", 3*time.Second, "measured time of a round")
	flag.BoolVar(&b.quick, "quick", false, "requests, events and memory only")
	flag.StringVar(&b.profile, "profile", "", "write a CPU profile of maas under requests and streams to this file")
	check := flag.String("check", "", "file of ratios: fail when one is exceeded by more than the tolerance")
	tolerance := flag.Float64("tolerance", 0.5, "how far above the stored ratio the check lets a measured one lie")
	write := flag.String("write", "", "write the ratios to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b.ctx = ctx
	err := b.run()
	b.close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ratio:", err)
		os.Exit(1)
	}
	b.table()
	if *write != "" {
		err = b.write(*write)
	}
	if *check != "" && err == nil {
		err = b.check(*check, *tolerance)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ratio:", err)
		os.Exit(1)
	}
}

func (b *bench) run() (err error) {
	if _, err := exec.LookPath("nginx"); err != nil {
		return errors.New("nginx is missing: apt-get install -y --no-install-recommends nginx-light")
	}
	if b.root, err = os.Getwd(); err != nil {
		return err
	}
	if b.maas, err = filepath.Abs(b.maas); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "maas-bench-"); err != nil {
		return err
	}
	if err := b.build(); err != nil {
		return err
	}
	if err := b.startParts(); err != nil {
		return err
	}
	ours, _, err := b.install("maas", b.profile)
	if err != nil {
		return err
	}
	if err := b.idle(ours); err != nil { // first: a heap that load has made large would take the streams in without growing
		return err
	}
	if err := b.requests(ours); err != nil {
		return err
	}
	if err := b.streams(ours); err != nil {
		return err
	}
	if b.quick {
		return nil
	}
	return b.keys()
}

// command runs a program to its end and gives back what it prints.
func (b *bench) command(dir, stdin string, env []string, name string, args ...string) (string, error) {
	c := exec.CommandContext(b.ctx, name, args...)
	c.Dir, c.Stdin, c.Env = dir, strings.NewReader(stdin), append(os.Environ(), env...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func (b *bench) build() error {
	if _, err := b.command(filepath.Join(b.root, "bench", "gateway"), "", nil, "go", "build", "-o", b.dir+"/", "./loadgen", "./mockupstream"); err != nil {
		return err
	}
	if b.quick {
		return nil
	}
	_, err := b.command(b.root, "", nil, "go", "test", "-c", "-o", filepath.Join(b.dir, "gateway.test"), "./internal/gateway")
	return err
}

// start runs a program until close; its standard error goes to a file.
func (b *bench) start(name string, env []string, program string, args ...string) (*exec.Cmd, error) {
	c := exec.Command(program, args...) // stopped by close, with time to write profiles
	c.Env = append(os.Environ(), env...)
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.Stderr = log
	if err := c.Start(); err != nil {
		return nil, err
	}
	b.procs = append(b.procs, c)
	return c, nil
}

func (b *bench) stop(c *exec.Cmd) {
	_ = c.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = c.Process.Kill() })
	_ = c.Wait()
	late.Stop()
	b.procs = slices.DeleteFunc(b.procs, func(o *exec.Cmd) bool { return o == c })
}

func (b *bench) close() {
	for len(b.procs) > 0 {
		b.stop(b.procs[len(b.procs)-1])
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// port is a port of this machine that nobody has at the moment.
func port() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// answers waits for a server.
func (b *bench) answers(url string) error {
	c := http.Client{Timeout: 5 * time.Second}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if res, err := c.Get(url); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not answer", url)
}

const nginxConf = `worker_processes 1; pid %[1]s/nginx.pid; error_log %[1]s/nginx-error.log; daemon off; master_process off;
events { worker_connections 8192; }
http {
  access_log off; client_max_body_size 32m; client_body_buffer_size 1m; keepalive_requests 1000000;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream up { server %[2]s; keepalive 256; keepalive_requests 1000000; }
  server { listen %[3]s; location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Bearer up-key"; proxy_buffering off; } }
}
`

// startParts starts the upstream and nginx.
func (b *bench) startParts() (err error) {
	if b.mock, err = port(); err != nil {
		return err
	}
	m, err := b.start("mock", nil, filepath.Join(b.dir, "mockupstream"), "-addr", b.mock, "-key", "up-key")
	if err != nil {
		return err
	}
	b.mockPID = m.Process.Pid
	if err := b.answers("http://" + b.mock + "/_mock/stats"); err != nil {
		return err
	}
	at, err := port()
	if err != nil {
		return err
	}
	conf := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, b.dir, b.mock, at), 0o600); err != nil {
		return err
	}
	n, err := b.start("nginx", nil, "nginx", "-c", conf)
	if err != nil {
		return err
	}
	b.nginx = target{name: "nginx", url: "http://" + at, key: "x", pid: n.Process.Pid}
	return b.answers(b.nginx.url + "/_mock/stats")
}

// serve starts maas on a data folder.
func (b *bench) serve(name, data, profile string) (target, *exec.Cmd, error) {
	at, err := port()
	if err != nil {
		return target{}, nil, err
	}
	args := []string{"serve", "--data", data, "--listen", at, "--set", "inference.upstream.allow_loopback=true"}
	if profile != "" {
		args = append(args, "--cpuprofile", profile)
	}
	c, err := b.start(name, []string{"MAAS_ADMIN_EMAIL=bench@example.com", "MAAS_ADMIN_PASSWORD=bench-password-1"}, b.maas, args...)
	if err != nil {
		return target{}, nil, err
	}
	t := target{name: name, url: "http://" + at, pid: c.Process.Pid}
	if err := b.answers(t.url + "/readyz"); err != nil {
		log, _ := os.ReadFile(filepath.Join(b.dir, name+".log"))
		return t, c, fmt.Errorf("%w\n%s", err, log)
	}
	return t, c, nil
}

// install makes a fresh installation with one deployment of the upstream and a key.
func (b *bench) install(name, profile string) (target, string, error) {
	data := filepath.Join(b.dir, "data-"+name)
	t, _, err := b.serve(name, data, profile)
	if err != nil {
		return t, data, err
	}
	env := []string{"XDG_CONFIG_HOME=" + filepath.Join(b.dir, "config-"+name)}
	for _, c := range []struct {
		stdin string
		args  []string
	}{
		{"bench-password-1\n", []string{"login", "--url", t.url, "--email", "bench@example.com", "--password-stdin"}},
		{"up-key\n", []string{"provider", "add", "--name", "mock", "--base-url", "http://" + b.mock + "/v1", "--key-stdin"}},
		{"", []string{"deploy", "create", "--provider", "mock", "--upstream", "mock", "--name", "mock", "--wait"}},
	} {
		if _, err := b.command(b.dir, c.stdin, env, b.maas, c.args...); err != nil {
			return t, data, err
		}
	}
	t.key, err = b.command(b.dir, "", env, b.maas, "key", "create", "--name", "bench", "--quiet")
	return t, data, err
}

// compared is what loadgen says of one target.
type compared struct {
	Target string `json:"target"`
	Errors uint64 `json:"errors"`
	Err    string `json:"first_error"`
	Rounds []struct {
		Req   float64 `json:"cpu_us_per_request"`
		Chunk float64 `json:"cpu_us_per_chunk"`
	} `json:"rounds"`
}

// cpu lists the CPU of each round, per event or per request.
func (c *compared) cpu(stream bool) []float64 {
	var list []float64
	for _, r := range c.Rounds {
		if stream {
			list = append(list, r.Chunk)
		} else {
			list = append(list, r.Req)
		}
	}
	return list
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

func (b *bench) compare(stream bool, targets []target, args ...string) ([]compared, error) {
	all := append([]string{"compare", "-c", "64", "-d", b.d.String(), "-rounds", fmt.Sprint(b.rounds), "-base", targets[0].name, "-upstream-pid", fmt.Sprint(b.mockPID)}, args...)
	for _, t := range targets {
		all = append(all, "-t", t.String())
	}
	c := exec.CommandContext(b.ctx, filepath.Join(b.dir, "loadgen"), all...)
	c.Stderr = os.Stderr
	raw, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("loadgen: %w", err)
	}
	var out struct{ Targets []compared }
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, err
	}
	for i, t := range out.Targets {
		if t.Errors > 0 {
			return nil, fmt.Errorf("%s: %d requests failed: %s", t.Target, t.Errors, t.Err)
		}
		if slices.Contains(t.cpu(stream), 0) || len(t.Rounds) != b.rounds || t.Target != targets[i].name {
			return nil, fmt.Errorf("%s: nothing was measured", t.Target)
		}
	}
	return out.Targets, nil
}

func (b *bench) add(name, what string, ours, base float64, unit string, goal float64) {
	b.figures = append(b.figures, figure{name, what, ours, base, unit, ours / base, ours / base, goal})
}

// addCPU notes the CPU of two sides that were compared.
func (b *bench) addCPU(name, what string, ours, base *compared, stream bool, goal float64) {
	o, n := ours.cpu(stream), base.cpu(stream)
	b.add(name, what, median(o), median(n), "us", goal)
	f := &b.figures[len(b.figures)-1]
	for i := range o {
		f.Best = min(f.Best, o[i]/n[i])
	}
}

// requests compares whole answers; with the bare pass-through beside, unless it has to be quick.
func (b *bench) requests(ours target) error {
	fmt.Fprintln(os.Stderr, "whole answers, 64 connections, 1 KB")
	targets := []target{b.nginx, ours}
	if !b.quick {
		bare, err := b.bare()
		if err != nil {
			return err
		}
		targets = append(targets, bare)
	}
	got, err := b.compare(false, targets, "-warmup", "1500ms") // long enough for the booking of one round to fall into it as much as out of it
	if err != nil {
		return err
	}
	b.addCPU("request", "CPU per request", &got[1], &got[0], false, 1.8)
	if !b.quick {
		b.addCPU("features", "all features against bare pass-through", &got[1], &got[2], false, 1.05)
		b.addCPU("bare", "bare pass-through (loop and client alone)", &got[2], &got[0], false, 0)
	}
	return nil
}

// bare starts the pass-through that has nothing of the gateway.
func (b *bench) bare() (target, error) {
	c := exec.Command(filepath.Join(b.dir, "gateway.test"), "-test.run", "^TestServeBare$", "-test.timeout", "0")
	c.Env = append(os.Environ(), "MAAS_BENCH_UPSTREAM="+b.mock, "GOGC=200")
	out, err := c.StdoutPipe()
	if err != nil {
		return target{}, err
	}
	if err := c.Start(); err != nil {
		return target{}, err
	}
	b.procs = append(b.procs, c)
	s := bufio.NewScanner(out)
	for s.Scan() {
		if url, ok := strings.CutPrefix(s.Text(), "url="); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return target{name: "bare", url: url, key: "x", pid: c.Process.Pid}, nil
		}
	}
	return target{}, errors.New("the bare pass-through did not start")
}

func (b *bench) set(query string) error {
	return b.answers("http://" + b.mock + "/_mock/set?" + query)
}

func (b *bench) streams(ours target) error {
	fmt.Fprintln(os.Stderr, "streams, 64 connections, 40 events of 5 ms")
	if err := b.set("gap=5ms&ttft=5ms&chunks=40"); err != nil {
		return err
	}
	got, err := b.compare(true, []target{b.nginx, ours}, "-stream", "-include-usage", "-warmup", "500ms")
	if err != nil {
		return err
	}
	b.addCPU("event", "CPU per streamed event", &got[1], &got[0], true, 1.5)
	return nil
}

func (b *bench) idle(ours target) error {
	fmt.Fprintln(os.Stderr, "memory of 1,000 idle streams")
	if err := b.set("gap=8s&ttft=10ms&chunks=4"); err != nil {
		return err
	}
	kb := func(t target) (float64, error) {
		raw, err := b.command(b.dir, "", nil, filepath.Join(b.dir, "loadgen"), "hold", "-t", t.String(), "-streams", "1000", "-settle", "2s")
		if err != nil {
			return 0, err
		}
		var h struct {
			KB     float64 `json:"kb_per_stream"`
			Failed int     `json:"failed"`
		}
		if err := json.Unmarshal([]byte(raw), &h); err != nil || h.Failed > 0 || h.KB <= 0 {
			return 0, fmt.Errorf("idle streams of %s: %s", t.name, raw)
		}
		return h.KB, nil
	}
	base, err := kb(b.nginx)
	if err != nil {
		return err
	}
	mine, err := kb(ours)
	if err != nil {
		return err
	}
	b.add("idle", "memory of an idle open stream", mine, base, "KB", 2)
	return b.set("gap=0s&ttft=0s&chunks=40")
}

// keys compares an installation of 100,000 keys with one of 100; each request takes the next key.
func (b *bench) keys() error {
	fmt.Fprintln(os.Stderr, "100 keys and 100,000 keys")
	var targets []target
	for _, n := range []string{"100", "100000"} {
		name := "keys" + n
		t, data, err := b.install(name, "")
		if err != nil {
			return err
		}
		for _, c := range b.procs {
			if c.Process.Pid == t.pid {
				b.stop(c)
				break
			}
		}
		if _, err := b.command(b.root, "", []string{"MAAS_BENCH_DATA=" + data, "MAAS_BENCH_KEYS=" + n}, filepath.Join(b.dir, "gateway.test"), "-test.run", "^TestFillKeys$", "-test.timeout", "0"); err != nil {
			return err
		}
		if t, _, err = b.serve(name, data, ""); err != nil {
			return err
		}
		t.keys = filepath.Join(data, "keys.txt")
		targets = append(targets, t)
	}
	got, err := b.compare(false, targets, "-warmup", "1500ms")
	if err != nil {
		return err
	}
	b.addCPU("keys", "100,000 keys against 100 keys", &got[1], &got[0], false, 1.05)
	return nil
}

func (b *bench) table() {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tours\tagainst\tratio\tbest round\ttarget")
	for _, f := range b.figures {
		goal := "-"
		if f.Target > 0 {
			goal = fmt.Sprintf("<= %.2f", f.Target)
		}
		fmt.Fprintf(w, "%s\t%.1f %s\t%.1f %s\t%.2f\t%.2f\t%s\n", f.What, f.Ours, f.Unit, f.Base, f.Unit, f.Ratio, f.Best, goal)
	}
	_ = w.Flush()
}

func (b *bench) write(file string) error {
	raw, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}

// check compares with stored ratios.
func (b *bench) check(file string, tolerance float64) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var stored []figure
	if err := json.Unmarshal(raw, &stored); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var worse []string
	for _, f := range b.figures {
		i := slices.IndexFunc(stored, func(s figure) bool { return s.Name == f.Name })
		if i < 0 {
			continue
		}
		if most := stored[i].Ratio * (1 + tolerance); f.Best > most {
			worse = append(worse, fmt.Sprintf("%s: %.2f, stored is %.2f, up to %.2f is let pass", f.What, f.Best, stored[i].Ratio, most))
		}
	}
	if len(worse) > 0 {
		return errors.New("slower than stored: " + strings.Join(worse, "; "))
	}
	return nil
}
