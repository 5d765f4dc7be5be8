package maas

import (
	"context"
	"net"
	"net/http"

	"maas/internal/platform/event"
	"maas/internal/platform/job"
	"maas/internal/platform/object"
	"maas/internal/platform/replay"
	"maas/internal/platform/seal"
	"maas/internal/platform/web"
)

// floorMigrations are the schemas that no service owns.
func floorMigrations() []schema {
	return []schema{{"job", job.Migrations}, {"event", event.Migrations}, {"seal", seal.Migrations}, {"object", object.Migrations}, {"replay", replay.Migrations}}
}

// startFloor adds what every process runs, whatever its services: background work, delivery of events, metrics, the level of logs.
func (p *Process) startFloor(context.Context) error {
	lanes := map[string]int{"net": p.config.Jobs.Net, "maintenance": p.config.Jobs.Maintenance}
	if p.config.Jobs.CPU > 0 {
		lanes["cpu"] = p.config.Jobs.CPU
	}
	worker := &job.Worker{DB: p.db.System(), Registry: p.jobs, Log: p.tel.Log.With("component", "job"), Lanes: lanes, Metrics: p.tel.Registry}
	relay := &event.Relay{DB: p.db.System(), Registry: p.events, Log: p.tel.Log.With("component", "event"), Metrics: p.tel.Registry}
	relay.Jobs(p.jobs)
	repeated := &replay.Store{DB: p.db, Seal: p.seal, Now: p.opt.Now}
	repeated.Jobs(p.jobs)
	p.server.SetReplay(repeated.Serve)
	p.loops = append(p.loops, loop{"jobs", worker.Run}, loop{"events", relay.Run})
	job.Routes(p.server.API(), p.db)
	p.opsRoutes(p.server.API())
	p.server.Mount("metrics", p.metrics())
	return nil
}

type levelBody struct {
	Level string `json:"level" enum:"debug,info,warn,error" doc:"Log level of this process"`
}

// opsRoutes are the switches of a running process.
func (p *Process) opsRoutes(api web.API) {
	web.Get(api, "/ops/log-level", "ops_log_level_get", "ops:read", http.StatusOK, func(context.Context, *struct{}) (levelBody, error) {
		return levelBody{p.tel.Level()}, nil
	})
	web.Put(api, "/ops/log-level", "ops_log_level_set", "platform:write", http.StatusOK, func(ctx context.Context, in *struct{ Body levelBody }) (levelBody, error) {
		if err := p.tel.SetLevel(in.Body.Level); err != nil {
			return levelBody{}, err
		}
		p.tel.Log.WarnContext(ctx, "log level changed", "level", in.Body.Level)
		return levelBody{p.tel.Level()}, nil
	})
}

// metrics serves /metrics to this machine without a credential, to others with ops:read.
func (p *Process) metrics() http.Handler {
	h := p.tel.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r) {
			if err := p.server.Authorize(r, "ops:read"); err != nil {
				web.WriteProblem(w, r, err)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// local reports whether a request comes from this machine, not through a proxy.
func local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && isLoopback(host) && r.Header.Get("X-Forwarded-For") == ""
}
