// Command streams keeps many chat streams open against a running server for a while and says what happened: answers, errors, tokens, time to first token, and the server's memory at begin and end.
//
//	go run ./bench/streams -url http://127.0.0.1:8080 -key sk-maas-... -model demo -n 200 -time 1m -pid $(pgrep -f 'maas serve')
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type counts struct {
	answers, events, errors atomic.Int64
	mu                      sync.Mutex // guards first and samples
	first                   []time.Duration
	samples                 map[string]int
}

func main() {
	url := flag.String("url", "http://127.0.0.1:8080", "server")
	key := flag.String("key", "", "API key")
	model := flag.String("model", "demo", "deployment")
	n := flag.Int("n", 200, "streams at the same time")
	d := flag.Duration("time", time.Minute, "how long")
	tokens := flag.Int("tokens", 64, "tokens of an answer")
	pid := flag.Int("pid", 0, "process whose memory is watched")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *d)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *n}}
	c := counts{samples: map[string]int{}}
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":%d,"ignore_eos":true}`, *model, *tokens)
	var wg sync.WaitGroup
	for range *n {
		wg.Go(func() {
			for ctx.Err() == nil {
				c.one(ctx, client, *url, *key, body)
			}
		})
	}
	begin := 0
	for tick := time.NewTicker(*d / 6); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if begin == 0 {
				begin = rss(*pid)
			}
			fmt.Printf("%6d answers %8d events %5d errors   RSS %d kB\n", c.answers.Load(), c.events.Load(), c.errors.Load(), rss(*pid))
		}
	}
	wg.Wait()
	slices.Sort(c.first)
	if len(c.first) > 0 {
		fmt.Printf("first token p50 %v p99 %v\n", c.first[len(c.first)/2].Round(time.Millisecond), c.first[len(c.first)*99/100].Round(time.Millisecond))
	}
	for e, k := range c.samples {
		fmt.Printf("%6d x %s\n", k, e)
	}
	fmt.Printf("RSS from %d kB to %d kB\n%d passed, %d failed\n", begin, rss(*pid), c.answers.Load(), c.errors.Load())
	if c.errors.Load() > 0 {
		os.Exit(1)
	}
}

// one runs a stream to its end; a stream cut off by the end of the run counts as nothing.
func (c *counts) one(ctx context.Context, client *http.Client, url, key, body string) {
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		c.fail(ctx, err.Error())
		return
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		c.fail(ctx, err.Error())
		return
	}
	defer resp.Body.Close()
	events, done := int64(0), false
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		data, ok := bytes.CutPrefix(s.Bytes(), []byte("data: "))
		switch {
		case !ok:
		case string(data) == "[DONE]":
			done = true
		case bytes.Contains(data, []byte(`"error"`)) || resp.StatusCode != http.StatusOK:
			c.fail(ctx, string(data))
			return
		default:
			if events == 0 {
				c.mu.Lock()
				c.first = append(c.first, time.Since(start))
				c.mu.Unlock()
			}
			events++
		}
	}
	if !done {
		c.fail(ctx, fmt.Sprintf("status %d, no [DONE] after %d events", resp.StatusCode, events))
		return
	}
	c.events.Add(events)
	c.answers.Add(1)
}

func (c *counts) fail(ctx context.Context, what string) {
	if ctx.Err() != nil {
		return
	}
	c.errors.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) < 20 {
		c.samples[what[:min(len(what), 200)]]++
	}
}

// rss reads the resident memory of a process from /proc, in kB.
func rss(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kb int
			_, _ = fmt.Sscan(v, &kb)
			return kb
		}
	}
	return 0
}
