package model

import (
	"context"
	"embed"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/object"
	"maas/internal/platform/object/tus"
	"maas/internal/platform/web"
)

// Migrations holds the tables model_*.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Config of the service.
type Config struct {
	MaxFileBytes int64         `yaml:"max_file_bytes" doc:"Largest single file that may be uploaded; 0 = 1 TiB"`
	Grace        time.Duration `yaml:"grace" doc:"How long the bytes of a file that no version names are kept"`
}

// Defaults returns the configuration of a fresh installation.
func Defaults() Config { return Config{Grace: 24 * time.Hour} }

// Validate lists everything that is wrong.
func (c Config) Validate() []fault.Field {
	var bad []fault.Field
	if c.MaxFileBytes < 0 {
		bad = append(bad, fault.Field{Name: "model.max_file_bytes", Code: "out_of_range", Message: "must not be negative"})
	}
	if c.Grace < time.Hour {
		bad = append(bad, fault.Field{Name: "model.grace", Code: "out_of_range", Message: "must be at least 1h: an upload under way must not lose its files"})
	}
	return bad
}

// Deps is what the service needs.
type Deps struct {
	DB      *db.DB
	Log     *slog.Logger
	Now     clock.Clock
	Metrics prometheus.Registerer // nil = none
	Objects object.Bucket
	Dir     string // folder of this machine for materialized versions
	Config  Config
}

// Service is the model service.
type Service struct {
	Deps
	store   store
	cache   *cache
	uploads *tus.Handler
	metrics metrics

	mu         sync.Mutex // guards dependents
	dependents Dependents
}

var _ API = (*Service)(nil)

type metrics struct {
	checks   *prometheus.CounterVec
	seconds  prometheus.Histogram
	removed  prometheus.Counter
	download prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		checks:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_model_validations_total", Help: "Checked versions by resulting status."}, []string{"status"}),
		seconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "maas_model_validation_seconds", Help: "Duration of validations.", Buckets: prometheus.ExponentialBuckets(0.05, 4, 8)}),
		removed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_model_gc_blobs_total", Help: "Blobs removed because no version names them."}),
		download: prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_model_downloads_total", Help: "Downloads of files begun."}),
	}
	if r != nil {
		r.MustRegister(m.checks, m.seconds, m.removed, m.download)
	}
	return m
}

// New makes the service. The tables must be there.
func New(_ context.Context, d Deps) (*Service, error) {
	s := &Service{Deps: d, cache: newCache(d.Dir), metrics: newMetrics(d.Metrics)}
	s.Log = d.Log.With("component", "model")
	h, err := tus.New(tus.Deps{DB: d.DB, Bucket: d.Objects, Log: s.Log, Now: d.Now, Path: web.Prefix + "/uploads", MaxSize: d.Config.MaxFileBytes})
	if err != nil {
		return nil, err
	}
	h.Purpose("model", tus.Purpose{Permission: "model:write", Allow: s.allowUpload})
	s.uploads = h
	return s, nil
}

// SetDependents sets who is asked before a model is deleted. Nil = nobody uses models.
func (s *Service) SetDependents(d Dependents) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dependents = d
}

// uses names what uses a model.
func (s *Service) uses(ctx context.Context, id string) ([]string, error) {
	s.mu.Lock()
	d := s.dependents
	s.mu.Unlock()
	if d == nil {
		return nil, nil
	}
	return d.ModelUses(ctx, id)
}

// Uploads returns the upload handler, so that other purposes can be registered on it.
func (s *Service) Uploads() *tus.Handler { return s.uploads }
