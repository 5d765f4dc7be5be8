package maas

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"maas/internal/gateway"
	"maas/internal/inference"
	"maas/internal/inference/engine/native"
	"maas/internal/model"
	"maas/internal/platform/config"
	"maas/internal/platform/fault"
	"maas/internal/platform/mail"
	"maas/internal/platform/telemetry"
	"maas/internal/platform/web"
	"maas/internal/user"
)

// ErrConfig is a configuration whose values do not fit together.
var ErrConfig = fault.New(fault.Invalid, "maas.config_invalid", "the configuration does not fit together")

// Config is the whole configuration of a process: one struct, every key documented where it stands.
type Config struct {
	Data     string        `yaml:"data" doc:"Folder that holds everything a process writes."`
	Listen   string        `yaml:"listen" doc:"Address of the HTTP listener: host:port."`
	URL      string        `yaml:"url" doc:"Address that people reach this installation at; empty = made from listen."`
	Proxies  []string      `yaml:"trusted_proxies" doc:"Addresses and CIDR blocks of proxies in front whose X-Forwarded-For is believed; address lists of keys and damping of guesses then see the client."`
	Rate     int           `yaml:"rate" doc:"Requests a minute of one person, key or address to the management API; 0 = no limit. Calls of models have limits of their own."`
	Services []string      `yaml:"services" doc:"Services that this process runs: all, or some of user, model, inference, gateway, console."`
	Drain    time.Duration `yaml:"drain" doc:"How long running requests may go on when the process is asked to stop."`

	TLS       TLS              `yaml:"tls"`
	Database  Database         `yaml:"database"`
	Objects   Objects          `yaml:"objects"`
	Cache     string           `yaml:"cache" doc:"Where limits of several gateways are counted together: memory: (each process alone) or redis://[:password@]host:port[/database]." secret:"true"`
	Seal      Seal             `yaml:"seal"`
	RPC       RPC              `yaml:"rpc"`
	Jobs      Jobs             `yaml:"jobs"`
	Telemetry telemetry.Config `yaml:"telemetry"`
	Admin     user.FirstOwner  `yaml:"admin"`
	Mail      mail.Config      `yaml:"mail"`
	User      user.Config      `yaml:"user"`
	Model     model.Config     `yaml:"model"`
	Inference inference.Config `yaml:"inference"`
	Gateway   gateway.Config   `yaml:"gateway"`
	Native    native.Config    `yaml:"engine_native"`
}

// TLS of the listener.
type TLS struct {
	Cert string `yaml:"cert" doc:"Certificate file (PEM); with key, the listener speaks TLS 1.3."`
	Key  string `yaml:"key" doc:"Private key file (PEM)."`
}

// Database of a process.
type Database struct {
	URL     string `yaml:"url" doc:"sqlite:PATH or postgres://user:password@host/name; empty = sqlite in the data folder." secret:"true"`
	Sync    string `yaml:"sync" doc:"SQLite only: full survives a power cut, normal may lose the last commits."`
	RLS     string `yaml:"rls" doc:"PostgreSQL only: row-level security as a second wall between tenants: auto (where the login may make roles), on (refuse to start without), off."`
	MaxOpen int    `yaml:"max_open" doc:"Connections at most; 0 = by the number of cores."`
}

// Objects says where files are stored.
type Objects struct {
	URL     string `yaml:"url" doc:"file:PATH; empty = in the data folder."`
	MinFree int64  `yaml:"min_free" doc:"Bytes that must stay free on the disk; 0 = the smaller of 5 % and 2 GiB."`
}

// Seal says where the master key is.
type Seal struct {
	Keys string `yaml:"keys" doc:"file:PATH of the master key, made at first start; empty = keys/master.key in the data folder."`
}

// RPC connects the processes of a split set.
type RPC struct {
	Listen string   `yaml:"listen" doc:"Address for calls of other processes: unix:PATH or 127.0.0.1:PORT; empty = none."`
	Peers  []string `yaml:"peers" doc:"Where services of other processes are: user=unix:/run/maas/user.sock, ..."`
	Front  []string `yaml:"front" doc:"HTTP listeners of other processes, to which this one passes requests that are not its own: user=http://127.0.0.1:8081, ..."`
}

// Jobs of this process.
type Jobs struct {
	CPU         int `yaml:"cpu" doc:"Background jobs of the lane cpu that run at the same time; 0 = one per two cores."`
	Net         int `yaml:"net" doc:"Background jobs of the lane net that run at the same time."`
	Maintenance int `yaml:"maintenance" doc:"Background jobs of the lane maintenance that run at the same time."`
}

// Defaults returns the configuration of a fresh installation on one machine.
func Defaults() Config {
	return Config{
		Data: "./data", Listen: "127.0.0.1:8080", Services: []string{"all"}, Drain: 30 * time.Second,
		Rate: 3000, Cache: "memory:", Database: Database{Sync: "full", RLS: "auto"}, Jobs: Jobs{Net: 4, Maintenance: 1}, Telemetry: telemetry.Defaults(),
		User: user.Defaults(), Model: model.Defaults(), Inference: inference.Defaults(), Gateway: gateway.Defaults(), Native: native.Defaults(),
	}
}

// Validate fills what follows from other values and returns every fault at once.
func (c *Config) Validate() error {
	var faults []fault.Field
	bad := func(name, code, message string) {
		faults = append(faults, fault.Field{Name: name, Code: code, Message: message})
	}
	data, err := filepath.Abs(c.Data)
	if err != nil || c.Data == "" {
		bad("data", "required", "names the folder that everything is written to")
	}
	c.Data = data
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.Database.URL, "sqlite:"+filepath.Join(data, "maas.db"))
	set(&c.Objects.URL, "file:"+filepath.Join(data, "objects"))
	set(&c.Seal.Keys, "file:"+filepath.Join(data, "keys", "master.key"))
	if c.Listen == "" {
		bad("listen", "required", "names host:port of the listener")
	}
	for _, p := range web.CheckProxies(c.Proxies) {
		bad("trusted_proxies", "format", p+" is no address or CIDR block such as 10.0.0.0/8")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls", "required", "cert and key go together")
	}
	if len(c.Services) == 0 {
		bad("services", "required", "names at least one service")
	}
	for _, s := range c.Services {
		if s != "all" && !slices.Contains(serviceNames(), s) {
			bad("services", "not_in_list", "there is no service "+s+"; there are "+strings.Join(serviceNames(), ", "))
		}
	}
	for key, list := range map[string][]string{"rpc.peers": c.RPC.Peers, "rpc.front": c.RPC.Front} {
		for _, p := range list {
			if name, address, ok := strings.Cut(p, "="); !ok || address == "" || !slices.Contains(serviceNames(), name) {
				bad(key, "format", "takes service=address, for a service of "+strings.Join(serviceNames(), ", "))
			}
		}
	}
	if len(faults) > 0 {
		return ErrConfig.WithFields(faults...)
	}
	return nil
}

// Load reads defaults, file, environment and flags and validates the result.
func Load(src config.Source) (Config, error) {
	c := Defaults()
	if err := config.Load(&c, src); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// runs reports whether this process runs the service.
func (c *Config) runs(service string) bool {
	return slices.Contains(c.Services, "all") || slices.Contains(c.Services, service)
}

// address finds a service in a list of service=address.
func address(list []string, service string) string {
	for _, p := range list {
		if name, a, ok := strings.Cut(p, "="); ok && name == service {
			return a
		}
	}
	return ""
}
