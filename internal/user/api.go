package user

import (
	"context"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/meter"
)

// The errors that callers of the API act on.
var (
	ErrSetupRequired  = fault.New(fault.Unavailable, "user.setup_required", "this installation has no owner yet").WithHint("Open the console, or start the server with MAAS_ADMIN_EMAIL and MAAS_ADMIN_PASSWORD")
	ErrMissingKey     = fault.New(fault.Unauthenticated, "user.missing_key", "send an API key or an access token").WithHint("Authorization: Bearer <key>")
	ErrInvalidKey     = fault.New(fault.Unauthenticated, "user.invalid_key", "this API key is not valid")
	ErrKeyExpired     = fault.New(fault.Unauthenticated, "user.key_expired", "this API key has expired")
	ErrKeyRevoked     = fault.New(fault.Unauthenticated, "user.key_revoked", "this API key was revoked")
	ErrIPNotAllowed   = fault.New(fault.Forbidden, "user.ip_not_allowed", "this API key may not be used from this address").WithHint("The key's list of addresses can be changed under API keys")
	ErrKeysStale      = fault.New(fault.Unavailable, "user.keys_stale", "credentials cannot be checked now").After(5 * time.Second)
	ErrInvalidToken   = fault.New(fault.Unauthenticated, "user.invalid_token", "this access token is not valid")
	ErrSessionExpired = fault.New(fault.Unauthenticated, "user.session_expired", "the session has expired").WithHint("Sign in again")
	ErrSessionRevoked = fault.New(fault.Unauthenticated, "user.session_revoked", "the session was ended").WithHint("Sign in again")
	ErrSuspended      = fault.New(fault.Forbidden, "user.suspended", "this account is suspended").WithHint("Ask an owner or admin of your team")
	ErrTicket         = fault.New(fault.Unauthenticated, "user.bad_ticket", "this ticket is unknown, used or expired").WithHint("Tickets hold for 30 seconds and one use")
)

// API is what other processes and services may ask. Local [*Service] and remote [Client] give the same answers and the same errors.
type API interface {
	// Changes returns what changed after the version since, oldest first, at most a few thousand entries; More says that the next call has the rest. Changes since 0 is the full set of keys.
	// It blocks for one query only; callers poll.
	Changes(ctx context.Context, since int64) (Changes, error)
	// KeyByHash returns the grant of one key by the hex SHA-256 of its text: ErrInvalidKey if there is none. Revoked and expired keys are returned with their state.
	KeyByHash(ctx context.Context, hash string) (KeyGrant, error)
	// Session returns the principal of a live session: ErrSessionExpired, ErrSessionRevoked, ErrSuspended else.
	Session(ctx context.Context, id string) (auth.Principal, error)
	// SigningKeys returns the public halves that access tokens may be signed with now.
	SigningKeys(ctx context.Context) ([]PublicKey, error)
	// RedeemTicket consumes a one-time ticket for a path: ErrTicket if it is unknown, used, expired or made for something else.
	RedeemTicket(ctx context.Context, t TicketUse) (auth.Principal, error)
	// Record books a batch of usage in one transaction. It is idempotent by (Node, Epoch, Seq) and each row by RequestID: a repeat changes nothing and returns nil.
	// Each row is priced by the version pinned in it, and charged to the tenant's wallet and to every budget that applies.
	Record(ctx context.Context, b Batch) error
	// Node takes the report of a process that takes calls, every few seconds, and tells it how many there are: ErrNodeCopied if its journal is a copy of one in use.
	Node(ctx context.Context, r NodeReport) (NodeReply, error)
	// Lease and Return hand pieces of wallets and budgets to nodes that spend them without asking.
	meter.Grantor
}

// Changes is one page of the change feed.
type Changes struct {
	Version  int64      `json:"version"` // pass it as since of the next call
	More     bool       `json:"more,omitempty"`
	Keys     []KeyGrant `json:"keys,omitempty"`
	Sessions []string   `json:"sessions,omitempty"` // ids of sessions whose principal must be asked again
	Signing  bool       `json:"signing,omitempty"`  // the set of signing keys may have changed
	Setup    bool       `json:"setup"`              // the installation has an owner

	Limits []LimitGrant `json:"limits,omitempty"`

	Prices  []PriceVersion `json:"prices,omitempty"`
	Budgets []BudgetGrant  `json:"budgets,omitempty"`
	Wallets []WalletGrant  `json:"wallets,omitempty"`
}

// KeyStatus is why a key works or not.
type KeyStatus string

// The key states. Expiry is judged by the reader's clock against KeyGrant.ExpiresAt.
const (
	KeyActive    KeyStatus = "active"
	KeyExpired   KeyStatus = "expired"
	KeyRevoked   KeyStatus = "revoked"
	KeySuspended KeyStatus = "suspended" // its owner is suspended or no member any more
)

// KeyGrant is a key resolved to what it may do.
type KeyGrant struct {
	Hash      string         `json:"hash"` // hex SHA-256 of the key text
	Principal auth.Principal `json:"principal"`
	ExpiresAt time.Time      `json:"expires_at,omitzero"`
	Status    KeyStatus      `json:"status"`
	Project   string         `json:"project,omitempty"`  // id of the project that its usage is counted on, as in Principal.Project; "" = the caller chooses
	IPAllow   []string       `json:"ip_allow,omitempty"` // CIDR blocks, masked; empty = from everywhere. The Verifier enforces it
	Strict    bool           `json:"strict,omitempty"`   // reserve the most that a call can cost
	Limits    KeyLimits      `json:"limits,omitzero"`    // of the key itself; others come in Changes.Limits
}

// PublicKey verifies access tokens.
type PublicKey struct {
	Kid    string `json:"kid"`
	Public []byte `json:"public"` // Ed25519, 32 bytes
	State  string `json:"state"`  // next, active, retired
}

// TicketUse is an attempt to use a ticket.
type TicketUse struct {
	Ticket string `json:"ticket"`
	Path   string `json:"path"` // of the request, without query
	IP     string `json:"ip"`
}

// How a request ended and where its token counts come from.
const (
	EndDone          = "done"
	EndClientAbort   = "client_abort"
	EndClientStall   = "client_stall"
	EndUpstreamError = "upstream_error"
	EndRefused       = "refused"
	EndNodeCrash     = "node_crash"

	SourceUpstream = "upstream" // the engine's final usage
	SourceRunning  = "running"  // the engine's last running usage
	SourceCounted  = "counted"  // content events counted by the gateway
	SourceEstimate = "estimate" // no usage was told; estimated from bytes
	SourcePartial  = "partial"  // last mark before a crash
	SourceNone     = "none"     // nothing was billed
)

// Usage is one model call. Token counts are disjoint: prompt = InFresh + InCache, completion = OutText + OutReasoning.
type Usage struct {
	RequestID       string    `json:"request_id"` // "req_" + UUIDv7
	ClientRequestID string    `json:"client_request_id,omitempty"`
	At              time.Time `json:"at"`
	TenantID        string    `json:"tenant_id"`
	UserID          string    `json:"user_id,omitempty"`
	KeyID           string    `json:"key_id,omitempty"`
	ProjectID       string    `json:"project_id,omitempty"`
	ProviderID      string    `json:"provider_id,omitempty"`   // of the last attempt; "" = an engine of ours
	PriceVersion    string    `json:"price_version,omitempty"` // pinned at admission; "" = no price, the call is free
	Op              string    `json:"op"`                      // chat, completion
	Model           string    `json:"model"`
	DeploymentID    string    `json:"deployment_id,omitempty"`
	ReplicaID       string    `json:"replica_id,omitempty"`
	Stream          bool      `json:"stream,omitempty"`
	Status          int       `json:"status"` // HTTP status the client got (499 = left before the head)
	End             string    `json:"end"`
	Source          string    `json:"source"`
	Attempts        int       `json:"attempts"`
	InFresh         int64     `json:"in_fresh"`
	InCache         int64     `json:"in_cache"`
	OutText         int64     `json:"out_text"`
	OutReasoning    int64     `json:"out_reasoning"`
	TTFTMS          int64     `json:"ttft_ms"` // 0 = no first byte
	DurationMS      int64     `json:"duration_ms"`
	Lost            []Lost    `json:"lost,omitempty"` // what attempts before the last one used up
}

// Lost is what a failed attempt of a call used up at its engine: it counts as cost, and is never billed.
type Lost struct {
	ProviderID   string `json:"provider_id,omitempty"`
	InFresh      int64  `json:"in_fresh"`
	InCache      int64  `json:"in_cache"`
	OutText      int64  `json:"out_text"`
	OutReasoning int64  `json:"out_reasoning"`
}

// Batch is a numbered piece of one node's usage journal.
type Batch struct {
	Node  string  `json:"node"`
	Epoch int64   `json:"epoch"`
	Seq   int64   `json:"seq"`
	Rows  []Usage `json:"rows"`
}

var _ API = (*Service)(nil)
