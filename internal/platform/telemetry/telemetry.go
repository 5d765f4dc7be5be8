// Package telemetry makes what the program says of itself: JSON logs with rotation and a level that changes while running, Prometheus metrics at /metrics, W3C trace context in every line.
//
// Secrets are masked twice: by attribute name and by the shape of the value. Prompts, answers and file contents are never logged.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"gopkg.in/natefinch/lumberjack.v2"

	"maas/internal/platform/fault"
)

// Config of logs and metrics.
type Config struct {
	Level      string `yaml:"level" doc:"Log level: debug, info, warn or error. Can be changed while running with PUT /api/v1/ops/log-level."`
	File       string `yaml:"file" doc:"Log file with rotation, relative to the data folder; empty = standard error only."`
	MaxSizeMB  int    `yaml:"max_size_mb" doc:"A log file is rotated at this size in MB."`
	MaxBackups int    `yaml:"max_backups" doc:"Rotated files that are kept."`
	MaxAgeDays int    `yaml:"max_age_days" doc:"Rotated files are deleted after this many days."`
}

// Defaults of Config.
func Defaults() Config {
	return Config{Level: "info", File: "logs/maas.log", MaxSizeMB: 64, MaxBackups: 10, MaxAgeDays: 30}
}

// ErrLevel is answered to an unknown log level.
var ErrLevel = fault.New(fault.Invalid, "telemetry.unknown_level", "a log level is debug, info, warn or error")

// Telemetry of one process.
type Telemetry struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	level    slog.LevelVar
	file     *lumberjack.Logger
}

// New opens the log. console gets warnings and errors as well as the file gets everything; without a file it gets everything.
func New(c Config, data string, console io.Writer) (*Telemetry, error) {
	t := &Telemetry{Registry: prometheus.NewRegistry()}
	if err := t.SetLevel(c.Level); err != nil {
		return nil, err
	}
	t.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	options := func(l slog.Leveler) *slog.HandlerOptions { return &slog.HandlerOptions{Level: l, ReplaceAttr: mask} }
	if c.File == "" {
		t.Log = slog.New(traced{slog.NewJSONHandler(console, options(&t.level))})
		return t, nil
	}
	path := c.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(data, path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	t.file = &lumberjack.Logger{Filename: path, MaxSize: c.MaxSizeMB, MaxBackups: c.MaxBackups, MaxAge: c.MaxAgeDays}
	t.Log = slog.New(traced{fanout{slog.NewJSONHandler(t.file, options(&t.level)), slog.NewTextHandler(console, options(slog.LevelWarn))}})
	return t, nil
}

// SetLevel changes the level of the running process. ErrLevel for an unknown one.
func (t *Telemetry) SetLevel(level string) error {
	var l slog.Level
	switch level {
	case "debug", "info", "warn", "error":
		_ = l.UnmarshalText([]byte(level)) // one of the four names
	default:
		return ErrLevel.WithFields(fault.Field{Name: "level", Code: "not_in_list", Message: "must be debug, info, warn or error"})
	}
	t.level.Set(l)
	return nil
}

// Level returns the present level.
func (t *Telemetry) Level() string { return strings.ToLower(t.level.Level().String()) }

// Handler serves /metrics in the Prometheus and OpenMetrics forms.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Close flushes and closes the log file.
func (t *Telemetry) Close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

var (
	secretName  = regexp.MustCompile(`(?i)pass|secret|token$|authorization|cookie|api_?key|private|credential|dsn`)
	secretShape = regexp.MustCompile(`(sk|pk|jt)-maas-[0-9A-Za-z]{8,}|sk-[0-9A-Za-z_-]{20,}|AIza[0-9A-Za-z_-]{20,}|AKIA[0-9A-Z]{16}|ghp_[0-9A-Za-z]{20,}|xox[a-z]-[0-9A-Za-z-]{10,}|eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+|://[^/\s:@]+:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----`)
)

// Mask replaces what looks like a secret in a text.
func Mask(s string) string {
	if !secretShape.MatchString(s) {
		return s
	}
	return secretShape.ReplaceAllString(s, "***")
}

func mask(_ []string, a slog.Attr) slog.Attr {
	switch {
	case secretName.MatchString(a.Key) && a.Value.Kind() == slog.KindString && a.Value.String() != "":
		return slog.String(a.Key, "***")
	case a.Value.Kind() == slog.KindString:
		return slog.String(a.Key, Mask(a.Value.String()))
	case a.Value.Kind() == slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			return slog.String(a.Key, Mask(err.Error()))
		}
	}
	return a
}

// fanout writes every record to each handler that wants it.
type fanout []slog.Handler

func (f fanout) Enabled(ctx context.Context, l slog.Level) bool {
	for _, h := range f {
		if h.Enabled(ctx, l) {
			return true
		}
	}
	return false
}

func (f fanout) Handle(ctx context.Context, r slog.Record) error {
	var first error
	for _, h := range f {
		if h.Enabled(ctx, r.Level) {
			if err := h.Handle(ctx, r.Clone()); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}

func (f fanout) WithAttrs(a []slog.Attr) slog.Handler {
	g := make(fanout, len(f))
	for i, h := range f {
		g[i] = h.WithAttrs(a)
	}
	return g
}

func (f fanout) WithGroup(name string) slog.Handler {
	g := make(fanout, len(f))
	for i, h := range f {
		g[i] = h.WithGroup(name)
	}
	return g
}
