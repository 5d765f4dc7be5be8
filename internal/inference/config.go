package inference

import (
	"time"

	"maas/internal/platform/fault"
	"maas/internal/platform/netguard"
)

// Config is the service's part of the configuration.
type Config struct {
	Context      int           `yaml:"context" doc:"Tokens a request may hold where a deployment names none; the model's own limit if that is smaller"`
	Concurrency  int           `yaml:"concurrency" doc:"Requests at a time where a deployment names none"`
	Drain        time.Duration `yaml:"drain" doc:"How long running requests may go on when a replica is stopped, before they are cut off"`
	Stall        time.Duration `yaml:"stall" doc:"A starting engine that shows no sign of life for this long is given up"`
	MemoryBytes  int64         `yaml:"memory_bytes" doc:"Memory that engines may use in all; 0 = what the machine or its cgroup has"`
	ReserveBytes int64         `yaml:"reserve_bytes" doc:"Memory that is never given to engines"`
	Upstream     Upstream      `yaml:"upstream"`
}

// Upstream says which addresses providers may have.
type Upstream struct {
	AllowLoopback bool `yaml:"allow_loopback" doc:"Providers may be on this machine (a self-hosted vLLM, Ollama, llama-server). Turn it off where admins of teams are not the operators of the machine"`
	AllowPrivate  bool `yaml:"allow_private" doc:"Providers may be in private networks. Turn it off where admins of teams are not the operators of the network"`
}

// Defaults are the settings of a fresh installation.
func Defaults() Config {
	return Config{Context: 8192, Concurrency: 4, Drain: time.Minute, Stall: 2 * time.Minute, ReserveBytes: 256 << 20, Upstream: Upstream{AllowLoopback: true, AllowPrivate: true}}
}

// Validate lists everything that is wrong.
func (c Config) Validate() []fault.Field {
	var bad []fault.Field
	add := func(name, message string) {
		bad = append(bad, fault.Field{Name: "inference." + name, Code: "out_of_range", Message: message})
	}
	if c.Context < 1 {
		add("context", "must be at least 1")
	}
	if c.Concurrency < 1 || c.Concurrency > 256 {
		add("concurrency", "must be 1 to 256")
	}
	if c.Drain < 0 {
		add("drain", "must not be negative")
	}
	if c.Stall < time.Second {
		add("stall", "must be at least 1s")
	}
	if c.MemoryBytes < 0 || c.ReserveBytes < 0 {
		add("memory_bytes", "sizes must not be negative")
	}
	return bad
}

// Policy is what Upstream means for connections.
func (u Upstream) Policy() netguard.Policy {
	return netguard.Policy{AllowLoopback: u.AllowLoopback, AllowPrivate: u.AllowPrivate}
}
