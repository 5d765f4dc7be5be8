package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"maas/internal/maastest/faulty"
)

// server is the built program on a data folder of its own.
type server struct {
	url   string
	dir   string
	cmd   *exec.Cmd
	ended chan error
	http  *http.Client
	token string
	key   string
}

const (
	owner    = "ada@example.com"
	password = "correct horse battery" // of a throw-away installation
	firstMS  = 1500                    // an attempt's time to its first piece
)

func start(ctx context.Context, bin string) (*server, error) {
	dir, err := os.MkdirTemp("", "f")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_ = l.Close()
	bin, err = filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://" + addr, dir: dir, ended: make(chan error, 1), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), bin, "serve", "--data", filepath.Join(dir, "data"), "--listen", addr, "--set", "admin.email="+owner, "--set", "admin.password="+password) //nolint:gosec // the program under test
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.ended <- s.cmd.Wait() }()
	for range 600 {
		if resp, err := s.look(ctx, "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case err := <-s.ended:
			return nil, fmt.Errorf("the server ended at its start (%w); see %s", err, log.Name())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil, errors.Join(errors.New("the server does not become ready; see "+log.Name()), s.stop())
}

// look asks for a page of the operator's. The caller closes the body.
func (s *server) look(ctx context.Context, path string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	return s.http.Do(q)
}

// stop ends the server as an operator does. Its folder stays if it does not end well.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.ended:
		if err != nil {
			return fmt.Errorf("the server ended badly: %w; see %s", err, s.dir)
		}
		return os.RemoveAll(s.dir)
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		return errors.New("the server does not end; see " + s.dir)
	}
}

// call asks the management API.
func (s *server) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, method, s.url+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	q.Header.Set("Authorization", "Bearer "+s.token)
	q.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

type object = map[string]any

// prepare makes the key, the three deployments and the route.
func (s *server) prepare(ctx context.Context, ups []*faulty.Upstream) error {
	var login struct {
		Token string `json:"access_token"`
	}
	if err := s.call(ctx, "POST", "/auth/login", object{"email": owner, "password": password}, &login); err != nil {
		return err
	}
	s.token = login.Token
	var key struct{ Secret string }
	if err := s.call(ctx, "POST", "/keys", object{"name": "soak"}, &key); err != nil {
		return err
	}
	s.key = key.Secret
	var targets []object
	for i, u := range ups {
		var p struct{ ID string }
		if err := s.call(ctx, "POST", "/inference/providers", object{"name": u.Name, "base_url": "http://" + u.Addr() + "/v1"}, &p); err != nil {
			return err
		}
		if err := s.call(ctx, "POST", "/inference/deployments", object{"name": u.Name, "provider": p.ID, "upstream_model": "m"}, nil); err != nil {
			return err
		}
		if err := s.ready(ctx, u.Name); err != nil {
			return err
		}
		if i < 2 {
			targets = append(targets, object{"deployment": u.Name, "priority": i})
		}
	}
	if err := s.call(ctx, "POST", "/inference/routes", object{"name": "soak", "targets": targets, "fallbacks": []string{"third"}, "timeout_ms": firstMS, "retry": object{"attempts": 5, "budget_percent": 100}}, nil); err != nil {
		return err
	}
	var test struct {
		OK    bool
		Error any
	}
	if err := s.call(ctx, "POST", "/inference/routes/soak/test", object{}, &test); err != nil {
		return err
	}
	if !test.OK {
		return fmt.Errorf("the route does not answer: %v", test.Error)
	}
	return nil
}

func (s *server) ready(ctx context.Context, name string) error {
	for range 300 {
		var d struct {
			Status string
			Reason struct{ Message string }
		}
		if err := s.call(ctx, "GET", "/inference/deployments/"+name, nil, &d); err != nil {
			return err
		}
		if d.Status == "ready" {
			return nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	return fmt.Errorf("the deployment %s does not become ready", name)
}

// memory is the server's resident set in kB; 0 where the system does not tell.
func (s *server) memory() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(fields[0])
	return n
}

// files is how many files and sockets the server has open.
func (s *server) files() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	return len(list)
}

// metric reads one value of the metrics page, summed over its labels.
func (s *server) metric(ctx context.Context, name string) float64 {
	resp, err := s.look(ctx, "/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	sum := 0.0
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:]), 64)
			if err == nil {
				sum += v
			}
		}
	}
	return sum
}
