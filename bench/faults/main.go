// Command faults lets a built server serve through upstreams that break in every way, for a while, and fails if an answer is not what it should be, a bill is not exact, or memory, connections or goroutines
// of the server grow.
//
//	go run ./bench/faults -bin bin/maas -time 10m
//
// It starts the server on a data folder of its own, three upstreams in this process, and a route over them: the first breaks at random and is down for a while now and then, the second breaks now and then,
// the third never does. So a client must get a whole answer whenever the failure comes before its first byte, and one error event when it comes later.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"maas/internal/maastest/faulty"
)

type options struct {
	bin     string
	time    time.Duration
	clients int
	think   time.Duration
	slack   int
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin/maas", "the program")
	flag.DurationVar(&o.time, "time", 10*time.Minute, "how long")
	flag.IntVar(&o.clients, "n", 16, "clients at the same time")
	flag.DurationVar(&o.think, "think", 20*time.Millisecond, "pause of a client between requests")
	flag.IntVar(&o.slack, "slack", 24<<10, "kB by which memory may differ between the middle and the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

// first is what the first upstream does: a third of it is trouble.
var first = func() []string {
	var list []string
	for _, f := range faulty.Faults() {
		switch f {
		case "400", "long", "down": // the client's own mistakes; and down has its own time
		default:
			list = append(list, f)
		}
	}
	return append(list, slices.Repeat([]string{"ok"}, 2*len(list))...)
}()

// soak is one run.
type soak struct {
	o    options
	s    *server
	ups  []*faulty.Upstream
	down atomic.Bool // the first upstream

	answers, broken, left, refused atomic.Int64
	mu                             sync.Mutex // guards what follows
	wrong                          []string   // what must not be
	kept                           []outcome  // for comparing bills
}

// outcome is what a client saw of a request.
type outcome struct {
	id     string
	pieces int  // of text
	done   bool // the answer was whole
	left   bool // the client went away
}

const keptMost = 400

func run(ctx context.Context, o options) (err error) {
	k := &soak{o: o}
	for _, name := range []string{"first", "second", "third"} {
		u, err := faulty.New(name)
		if err != nil {
			return err
		}
		defer u.Close()
		k.ups = append(k.ups, u)
	}
	if k.s, err = start(ctx, o.bin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.s.stop()) }()
	if err := k.s.prepare(ctx, k.ups); err != nil {
		return err
	}
	k.ups[0].Mode(func() string {
		if k.down.Load() {
			return "down"
		}
		return first[rand.IntN(len(first))] //nolint:gosec // a choice of faults
	})
	k.ups[1].Mode(func() string {
		if rand.IntN(10) == 0 { //nolint:gosec // the same
			return first[rand.IntN(len(first))] //nolint:gosec // the same
		}
		return "ok"
	})
	samples := k.load(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, u := range k.ups {
		u.Mode(nil)
	}
	k.bills(ctx)
	k.flat(samples)
	k.quiet(ctx)
	fmt.Printf("%d answers, %d broke off with an error event, %d left, %d refused; %d bills compared\n", k.answers.Load(), k.broken.Load(), k.left.Load(), k.refused.Load(), len(k.kept))
	if len(k.wrong) > 0 {
		for _, w := range k.wrong[:min(len(k.wrong), 20)] {
			fmt.Println("WRONG", w)
		}
		return fmt.Errorf("%d things were not as they should be", len(k.wrong))
	}
	return nil
}

func (k *soak) blame(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrong = append(k.wrong, fmt.Sprintf(format, args...))
}

// load has clients ask until the time is over and returns the server's memory in kB, once a second.
func (k *soak) load(ctx context.Context) []int {
	ctx, cancel := context.WithTimeout(ctx, k.o.time)
	defer cancel()
	var all sync.WaitGroup
	for range k.o.clients {
		all.Go(func() {
			for ctx.Err() == nil {
				k.one(ctx)
				pause(ctx, k.o.think)
			}
		})
	}
	all.Go(func() { // the first upstream is down for five seconds of every twenty
		for ctx.Err() == nil {
			pause(ctx, 15*time.Second)
			k.down.Store(true)
			pause(ctx, 5*time.Second)
			k.down.Store(false)
		}
	})
	var samples []int
	for second := 1; ctx.Err() == nil; second++ {
		pause(ctx, time.Second)
		samples = append(samples, k.s.memory())
		if second%30 == 0 {
			fmt.Printf("%4d s  %7d answers %6d broken off %6d left %5d refused   %d kB, %d files\n", second, k.answers.Load(), k.broken.Load(), k.left.Load(), k.refused.Load(), samples[len(samples)-1], k.s.files())
		}
	}
	all.Wait()
	return samples
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// flat compares the memory of the second half's beginning with its end.
func (k *soak) flat(samples []int) {
	if len(samples) < 10 {
		return
	}
	part := len(samples) / 5
	median := func(s []int) int {
		s = slices.Clone(s)
		slices.Sort(s)
		return s[len(s)/2]
	}
	middle, end := median(samples[2*part:3*part]), median(samples[4*part:])
	fmt.Printf("memory: %d kB in the middle, %d kB at the end\n", middle, end)
	if end > middle+middle/10+k.o.slack {
		k.blame("memory grew from %d kB to %d kB", middle, end)
	}
}
