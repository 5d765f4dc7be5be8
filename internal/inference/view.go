package inference

import (
	"encoding/json"
	"time"

	"maas/internal/inference/engine"
)

// Wanted states of a deployment.
const (
	DesiredRunning = "running"
	DesiredStopped = "stopped"
)

// NewDeployment is what a deployment is made from. Exactly one of Model and Provider is set.
type NewDeployment struct {
	Name          string          `json:"name" minLength:"1" maxLength:"96" pattern:"^[A-Za-z0-9][A-Za-z0-9._:/-]*$" patternDescription:"letters, digits, dot, dash, underscore, colon, slash" doc:"Public model name, unique in the tenant"`
	Model         string          `json:"model,omitempty" maxLength:"200" doc:"name, name@rN or version id of a registered model"`
	Provider      string          `json:"provider,omitempty" maxLength:"64" doc:"id of an upstream account"`
	UpstreamModel string          `json:"upstream_model,omitempty" maxLength:"200" doc:"the model's name at the provider"`
	Engine        string          `json:"engine,omitempty" enum:"auto,native,openai" doc:"auto chooses and says why"`
	Context       int             `json:"context,omitempty" minimum:"0" maximum:"4194304" doc:"tokens a request may hold; 0 = the model's limit, at most 8192"`
	Concurrency   int             `json:"concurrency,omitempty" minimum:"0" maximum:"256" doc:"requests at a time; 0 = 4"`
	Threads       int             `json:"threads,omitempty" minimum:"0" maximum:"1024" doc:"CPU threads; 0 = the server's setting"`
	Config        engine.Defaults `json:"config,omitzero" doc:"Sampling defaults used where a request names none"`
}

// Patch changes a deployment; nil fields stay. A change of model, context, concurrency or threads makes a new revision whose replica replaces the old one; config alone is applied at once where the engine leaves it to us.
type Patch struct {
	Model         *string          `json:"model,omitempty"`
	UpstreamModel *string          `json:"upstream_model,omitempty"`
	Context       *int             `json:"context,omitempty" minimum:"0" maximum:"4194304"`
	Concurrency   *int             `json:"concurrency,omitempty" minimum:"0" maximum:"256"`
	Threads       *int             `json:"threads,omitempty" minimum:"0" maximum:"1024"`
	Config        *engine.Defaults `json:"config,omitempty"`
}

// DeploymentFilter selects from the list.
type DeploymentFilter struct {
	Limit  int
	After  string
	Status string // comma-separated statuses, "" = all
}

// DeploymentView is a deployment as the outside sees it.
type DeploymentView struct {
	ID            string          `json:"id"`
	Name          string          `json:"name"`
	Model         *ModelRef       `json:"model"`
	Provider      *ProviderRef    `json:"provider"`
	UpstreamModel string          `json:"upstream_model"`
	Engine        string          `json:"engine"`
	EngineReason  string          `json:"engine_reason"`
	Desired       string          `json:"desired"`
	Status        Status          `json:"status"`
	Reason        *Reason         `json:"reason"`
	Progress      *Progress       `json:"progress"`
	Context       int             `json:"context"`
	Concurrency   int             `json:"concurrency"`
	Threads       int             `json:"threads"`
	Config        engine.Defaults `json:"config"`
	Need          *NeedView       `json:"need"`
	MeasuredBytes int64           `json:"measured_bytes"`
	Replicas      []ReplicaView   `json:"replicas"`
	Live          Live            `json:"live"`
	CreatedAt     time.Time       `json:"created_at"`
	UpdatedAt     time.Time       `json:"updated_at"`
	Rev           int64           `json:"rev"`
}

// ModelRef names the model version a deployment serves.
type ModelRef struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Version   int    `json:"version"`
	VersionID string `json:"version_id"`
}

// ProviderRef names the upstream account a deployment goes to.
type ProviderRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Progress of the replica that starts.
type Progress struct {
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	Unit  string `json:"unit"`
}

// NeedView is the estimate of memory.
type NeedView struct {
	HostBytes  int64            `json:"host_bytes"`
	Parts      map[string]int64 `json:"parts"` // weights, kv, scratch, fixed
	MaxContext int              `json:"max_context"`
}

// ReplicaView is one replica as the outside sees it.
type ReplicaView struct {
	ID            string       `json:"id"`
	Revision      int          `json:"revision"`
	State         ReplicaState `json:"state"`
	Attempt       int          `json:"attempt"`
	PID           int          `json:"pid,omitempty"`
	Reason        *Reason      `json:"reason"`
	Progress      *Progress    `json:"progress,omitempty"`
	MeasuredBytes int64        `json:"measured_bytes"`
	RetryAt       time.Time    `json:"retry_at,omitzero"`
	StartedAt     time.Time    `json:"started_at,omitzero"`
	ReadyAt       time.Time    `json:"ready_at,omitzero"`
}

// Live are the newest figures of a deployment.
type Live struct {
	Running       int     `json:"running"`
	Waiting       int     `json:"waiting"`
	KVUsage       float64 `json:"kv_usage"`
	TokensPerS    float64 `json:"tokens_per_s"` // over the last ten seconds
	TTFTP50       float64 `json:"ttft_ms_p50"`  // over the last five minutes
	RequestsTotal int64   `json:"requests_total"`
}

// FitQuery asks whether a model would fit.
type FitQuery struct {
	Model       string `json:"model" minLength:"1" maxLength:"200"`
	Engine      string `json:"engine,omitempty" enum:"auto,native"`
	Context     int    `json:"context,omitempty" minimum:"0" maximum:"4194304"`
	Concurrency int    `json:"concurrency,omitempty" minimum:"0" maximum:"256"`
}

// FitAnswer says whether, why not, and what would.
type FitAnswer struct {
	Fits         bool      `json:"fits"`
	Engine       string    `json:"engine"`
	EngineReason string    `json:"engine_reason"`
	Need         *NeedView `json:"need"`
	HaveBytes    int64     `json:"have_bytes"`  // free memory we would give it
	MaxContext   int       `json:"max_context"` // the largest that fits with this concurrency; 0 = none
	Context      int       `json:"context"`
	Concurrency  int       `json:"concurrency"`
	Reason       *Reason   `json:"reason"`
}

// Transition is one change of state, with why. Replica is empty for changes of the deployment itself.
type Transition struct {
	ID         string    `json:"id"`
	Seq        int64     `json:"seq"` // grows by one within a deployment
	Deployment string    `json:"deployment_id"`
	Replica    string    `json:"replica_id"`
	Attempt    int       `json:"attempt"`
	From       string    `json:"from"`
	To         string    `json:"to"`
	Code       string    `json:"code"`    // of the reason
	Message    string    `json:"message"` // of the reason
	Reason     *Reason   `json:"reason"`
	At         time.Time `json:"at"`
	tenant     string
}

// in puts the reason's words into a language.
func (t Transition) in(lang string) Transition {
	t.Reason = t.Reason.In(lang)
	if t.Reason != nil {
		t.Code, t.Message = t.Reason.Code, t.Reason.Message
	}
	return t
}

// view makes the outside form: the row, its replicas, and what the supervisors know at this moment.
func (s *Service) view(d Deployment, replicas []Replica) DeploymentView {
	v := DeploymentView{
		ID: d.ID, Name: d.Name, Model: versionOf(d.Spec), UpstreamModel: d.Spec.UpstreamModel, Engine: d.Spec.Engine, EngineReason: d.EngineReason, Desired: d.Desired, Status: d.Status, Reason: d.Cause.view(),
		Context: d.Spec.Context, Concurrency: d.Spec.Concurrency, Threads: d.Spec.Threads, Config: d.Spec.Config, Need: needView(d.Need), Replicas: []ReplicaView{}, Live: s.monitor.live(d.ID),
		CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt, Rev: d.Rev,
	}
	if d.Spec.ProviderID != "" {
		v.Provider = &ProviderRef{ID: d.Spec.ProviderID, Name: d.Spec.ProviderName}
	}
	for _, r := range replicas {
		if r.State.final() && r.Revision != d.Revision {
			continue // history: see the list of replicas
		}
		rv := s.replicaView(r)
		v.Replicas = append(v.Replicas, rv)
		if r.State == RReady {
			v.MeasuredBytes += rv.MeasuredBytes
		}
		if r.Revision == d.Revision && rv.Progress != nil {
			v.Progress = rv.Progress
		}
	}
	return v
}

func (s *Service) replicaView(r Replica) ReplicaView {
	v := ReplicaView{ID: r.ID, Revision: r.Revision, State: r.State, Attempt: r.Attempt, PID: r.Ref.PID, Reason: r.Cause.view(), MeasuredBytes: r.Measured, RetryAt: r.RetryAt, StartedAt: r.StartedAt, ReadyAt: r.ReadyAt}
	s.mu.Lock()
	p := s.supervisors[r.ID]
	s.mu.Unlock()
	if p == nil || r.State != RStarting && r.State != RLoading {
		return v
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.progress; g.Total > 0 {
		v.Progress = &Progress{Done: g.Done, Total: g.Total, Unit: g.Unit}
	}
	return v
}

func needView(n *engine.Need) *NeedView {
	if n == nil || n.HostBytes == 0 {
		return nil
	}
	return &NeedView{HostBytes: n.HostBytes, Parts: n.Parts, MaxContext: n.MaxContext}
}

// CreateAnswer is a deployment, or with dry_run the plan for one: exactly one part is set, and its fields are the answer's.
type CreateAnswer struct {
	*DeploymentView
	*FitAnswer
}

// MarshalJSON writes the part that is set.
func (a CreateAnswer) MarshalJSON() ([]byte, error) {
	if a.FitAnswer != nil {
		return json.Marshal(a.FitAnswer)
	}
	return json.Marshal(a.DeploymentView)
}
