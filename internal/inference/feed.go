package inference

import (
	"context"
	"reflect"
	"sync"
)

// feed holds the newest route table and lets readers wait for the next. The zero value is ready.
type feed struct {
	mu    sync.Mutex // guards all
	table Table
	next  chan struct{}     // closed when table is replaced
	names map[string]string // public name by deployment
	owner map[string]string // tenant by deployment
}

// set gives the table the next version if it says anything new, and returns the one that holds now.
func (f *feed) set(t Table) Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Version = f.table.Version
	if f.table.Version > 0 && reflect.DeepEqual(t, f.table) {
		return f.table
	}
	t.Version++
	f.table = t
	f.names, f.owner = make(map[string]string, len(t.Routes)), make(map[string]string, len(t.Routes))
	for _, r := range t.Routes {
		if r.Chain != nil {
			continue
		}
		f.names[r.Model.Deployment] = r.Model.ID
		f.owner[r.Model.Deployment] = r.Model.Tenant
	}
	if f.next != nil {
		close(f.next)
		f.next = nil
	}
	return t
}

func (f *feed) name(deployment string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names[deployment]
}

// tenants tells who owns each deployment. The map must not be changed.
func (f *feed) tenants() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owner
}

func (f *feed) get() (Table, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = make(chan struct{})
	}
	return f.table, f.next
}

// Feed is the seam for a gateway in another process. One in this process uses Router.
func (s *Service) Feed() Feed { return localFeed{s} }

type localFeed struct{ s *Service }

// Routes implements Feed.
func (l localFeed) Routes(ctx context.Context, since uint64) (Table, error) {
	for {
		t, next := l.s.feed.get()
		if t.Version > since {
			return t, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return Table{}, ctx.Err()
		}
	}
}

// Report implements Feed: outcomes of requests that another process routed.
func (l localFeed) Report(_ context.Context, outcomes []Outcome) error {
	for _, o := range outcomes {
		l.s.outcome(o)
	}
	return nil
}
