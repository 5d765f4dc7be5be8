package inference

import (
	"regexp"
	"strings"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/fault"
)

// Spec is the snapshot a revision runs: everything that decides what the engine process is.
type Spec struct {
	Engine        string          `json:"engine"` // a driver's name, never auto
	ModelID       string          `json:"model_id,omitempty"`
	ModelName     string          `json:"model_name,omitempty"`
	ModelVersion  int             `json:"model_version,omitempty"`
	VersionID     string          `json:"version_id,omitempty"`
	ProviderID    string          `json:"provider_id,omitempty"`
	ProviderName  string          `json:"provider_name,omitempty"`
	UpstreamModel string          `json:"upstream_model,omitempty"`
	Context       int             `json:"context"`
	Concurrency   int             `json:"concurrency"`
	Threads       int             `json:"threads,omitempty"`
	Config        engine.Defaults `json:"config,omitzero"`
}

// sameProcess reports whether two specs run as the same process: sampling defaults are put into requests by us, so they need none.
func (s Spec) sameProcess(o Spec) bool {
	s.Config, o.Config = engine.Defaults{}, engine.Defaults{}
	return s == o
}

// Deployment is what a tenant wants to run under a public name. It changes through its methods only.
type Deployment struct {
	ID, Tenant   string
	Name         string
	EngineReason string
	Spec         Spec
	Desired      string
	Deleting     bool
	Revision     int  // of Spec; also grows by a restart, which wants a new replica of the same spec
	Surge        bool // the replica of the former revision serves until that of this one is ready
	Status       Status
	Cause        cause
	Need         *engine.Need
	Seq          int64 // of the last transition
	CreatedAt    time.Time
	UpdatedAt    time.Time
	Rev          int64 // of changes by people
	version      int64 // of every write
}

// newDeployment makes a deployment that is wanted running.
func newDeployment(id, tenant, name string, spec Spec, engineReason string, now time.Time) Deployment {
	c := because("created")
	c.At = now
	return Deployment{ID: id, Tenant: tenant, Name: name, Spec: spec, EngineReason: engineReason, Desired: DesiredRunning, Revision: 1, Status: Pending, Cause: c, CreatedAt: now, UpdatedAt: now, Rev: 1}
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,95}$`)

// validate checks the sampling defaults and the name; all wrong fields are listed.
func (n NewDeployment) validate() error {
	var bad []fault.Field
	add := func(name, code, message string) {
		bad = append(bad, fault.Field{Name: "body." + name, Code: code, Message: message})
	}
	switch {
	case !nameForm.MatchString(n.Name):
		add("name", "pattern", "must be 1 to 96 letters, digits, dots, dashes, underscores, colons and slashes, and begin with a letter or digit")
	case strings.HasPrefix(n.Name, "app/"):
		add("name", "pattern", "names that begin with app/ belong to applications")
	}
	switch {
	case n.Model == "" && n.Provider == "":
		add("model", "required", "name a model, or a provider with upstream_model")
	case n.Model != "" && n.Provider != "":
		add("provider", "conflict", "name a model or a provider, not both")
	case n.Provider != "" && n.UpstreamModel == "":
		add("upstream_model", "required", "name the model as the provider calls it")
	}
	bad = append(bad, checkDefaults(n.Config)...)
	if len(bad) > 0 {
		return ErrSpec.WithFields(bad...)
	}
	return nil
}

func checkDefaults(d engine.Defaults) (bad []fault.Field) {
	if d.MaxTokens < 0 {
		bad = append(bad, fault.Field{Name: "body.config.max_tokens", Code: "out_of_range", Message: "must not be negative", Limit: 0})
	}
	if t := d.Temperature; t != nil && (*t < 0 || *t > 2) {
		bad = append(bad, fault.Field{Name: "body.config.temperature", Code: "out_of_range", Message: "must be between 0 and 2", Limit: 2})
	}
	if p := d.TopP; p != nil && (*p <= 0 || *p > 1) {
		bad = append(bad, fault.Field{Name: "body.config.top_p", Code: "out_of_range", Message: "must be above 0 and at most 1", Limit: 1})
	}
	return bad
}

// start wants it running. A deployment that failed for good, or is stopped, gets a new revision, whose replica begins without the old one's crash record. False when nothing changes.
func (d *Deployment) start() (bool, error) {
	if d.Deleting {
		return false, ErrDeleting
	}
	if d.Desired == DesiredRunning && d.Status != Failed {
		return false, nil
	}
	d.Desired = DesiredRunning
	d.Revision++
	d.Surge = false
	return true, nil
}

// stop wants it stopped. False when nothing changes.
func (d *Deployment) stop() (bool, error) {
	if d.Deleting {
		return false, ErrDeleting
	}
	if d.Desired == DesiredStopped {
		return false, nil
	}
	d.Desired = DesiredStopped
	return true, nil
}

// restart wants a new process of the same spec; the old one drains first. A stopped deployment starts.
func (d *Deployment) restart() error {
	if d.Deleting {
		return ErrDeleting
	}
	d.Desired = DesiredRunning
	d.Revision++
	d.Surge = false
	return nil
}

// change takes a new spec. When the process changes it is a new revision that replaces the old one while that serves; true then.
func (d *Deployment) change(spec Spec, engineReason string) (bool, error) {
	if d.Deleting {
		return false, ErrDeleting
	}
	same := d.Spec.sameProcess(spec)
	d.Spec, d.EngineReason = spec, engineReason
	if same {
		return false, nil
	}
	d.Revision++
	d.Surge = true
	return true, nil
}

// remove begins the deletion.
func (d *Deployment) remove() {
	d.Deleting = true
	d.Desired = DesiredStopped
}

// statusOf computes a deployment's status and its cause from what is wanted and its replicas. It is the only place where a status comes from.
func statusOf(d Deployment, replicas []Replica) (Status, cause) {
	var current, older *Replica
	for i := range replicas {
		r := &replicas[i]
		switch {
		case r.Revision == d.Revision:
			current = r
		case r.State == RReady && (older == nil || r.Revision > older.Revision):
			older = r
		}
	}
	switch {
	case d.Deleting:
		return Deleting, because("operator_delete")
	case d.Desired == DesiredStopped:
		for _, r := range replicas {
			if !r.State.final() {
				return Stopped, because("draining")
			}
		}
		return Stopped, because("operator_stop")
	case current == nil && older != nil:
		return Updating, because("spec_changed")
	case current == nil:
		return Pending, because("operator_start")
	case current.State == RReady:
		return Ready, because("ready")
	case older != nil && current.State == RFailed:
		return Degraded, current.Cause
	case older != nil:
		return Updating, current.Cause
	}
	switch current.State {
	case RFitting, RStarting, RLoading:
		return Starting, current.Cause
	case RFailed:
		return Failed, current.Cause
	default: // pending, draining, stopped: it will be tried
		return Pending, current.Cause
	}
}
