// Command fuzz runs every fuzz target of the module for a while each, as many side by side as there are cores.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

type target struct{ pkg, name string }

func main() {
	each := flag.Duration("time", 30*time.Second, "time for each target")
	only := flag.String("run", "", "only targets whose package or name contains this")
	flag.Parse()
	targets, err := find(*only)
	if err != nil || len(targets) == 0 {
		fmt.Fprintln(os.Stderr, "fuzz: no targets:", err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards failed and the terminal
	var failed []string
	queue := make(chan target)
	for range max(1, runtime.NumCPU()) {
		wg.Go(func() {
			for t := range queue {
				start := time.Now()
				out, err := run(t, *each)
				if err != nil && bytes.Contains(out, []byte("context deadline exceeded")) && !bytes.Contains(out, []byte("Failing input written")) {
					out, err = run(t, *each) // go test sometimes reports its own end of time as a failure without an input: once more decides
				}
				mu.Lock()
				fmt.Printf("%-60s %-8s %s\n", t.pkg+" "+t.name, time.Since(start).Round(time.Second), map[bool]string{true: "ok", false: "FAILED"}[err == nil])
				if err != nil {
					failed = append(failed, t.pkg+" "+t.name)
					fmt.Printf("%s\n", out)
				}
				mu.Unlock()
			}
		})
	}
	for _, t := range targets {
		queue <- t
	}
	close(queue)
	wg.Wait()
	fmt.Printf("%d passed, %d failed\n", len(targets)-len(failed), len(failed))
	if len(failed) > 0 {
		os.Exit(1)
	}
}

// run fuzzes one target for a while.
func run(t target, each time.Duration) ([]byte, error) {
	return exec.Command("go", "test", t.pkg, "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(), "-parallel", "1").CombinedOutput() //nolint:gosec,noctx // names come from our own sources
}

// find lists the targets by reading the sources: cheaper than asking each test binary.
func find(only string) ([]target, error) {
	out, err := exec.Command("grep", "-rnoE", "--include=*_test.go", "^func Fuzz[A-Za-z0-9_]+", "internal", "cmd").Output() //nolint:noctx // ends by itself
	if err != nil {
		return nil, err
	}
	var ts []target
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		file, rest, _ := strings.Cut(s.Text(), ":")
		_, name, _ := strings.Cut(rest, "func ")
		t := target{"./" + file[:strings.LastIndexByte(file, '/')], name}
		if strings.Contains(t.pkg+" "+t.name, only) {
			ts = append(ts, t)
		}
	}
	return ts, nil
}
