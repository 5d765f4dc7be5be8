package user

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/fault"
	"maas/internal/platform/web"
)

// How a Verifier follows the truth.
const (
	pollEvery    = 400 * time.Millisecond // a revoked key is refused within this plus one query
	staleMax     = 15 * time.Minute       // without news for this long every credential is refused
	gapMost      = 5 * time.Second        // after a longer silence everything is read anew: rows of purged organisations may be gone for good
	negativeKeep = 30 * time.Second       // an unknown key is not asked for again before
	negativeMost = 100_000
	lookupRate   = 50 // questions about unknown keys per second
	tokensMost   = 100_000
)

// Credential is a key or a session as this process knows it. It stays the same object while its rights change: long streams call Check again to notice.
type Credential struct {
	state   atomic.Pointer[credState]
	memo    atomic.Value
	of      *Credential // for one that acts for a chosen project: the credential itself
	project string
}

type credState struct {
	principal auth.Principal
	expires   time.Time      // zero = never
	allow     []netip.Prefix // addresses it may be used from; nil = all
	limits    KeyLimits      // of a key
	strict    bool           // of a key
	err       error          // why it does not hold
	stale     bool           // must be asked again (sessions)
}

// Check returns the principal if the credential holds at this moment. The principal is shared: do not change it.
func (c *Credential) Check(now time.Time) (*auth.Principal, error) {
	if c.of != nil {
		return c.checkProject(now)
	}
	s := c.state.Load()
	switch {
	case s.err != nil:
		return nil, s.err
	case !s.expires.IsZero() && !now.Before(s.expires):
		return nil, ErrKeyExpired
	}
	return &s.principal, nil
}

// For returns the credential as a request uses it: refused with ErrIPNotAllowed from an address that its list does not hold; acting for the project that a header names, which each Check then proves again.
func (c *Credential) For(r *http.Request) (*Credential, error) {
	s := c.state.Load()
	if s.allow != nil && s.err == nil {
		a := web.ClientAddr(r)
		if !a.IsValid() || !slices.ContainsFunc(s.allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return nil, ErrIPNotAllowed
		}
	}
	project := r.Header.Get("X-Maas-Project")
	if project == "" {
		project = r.Header.Get("Openai-Project")
	}
	if project == "" {
		return c, nil
	}
	return &Credential{of: c, project: project}, nil
}

func (c *Credential) checkProject(now time.Time) (*auth.Principal, error) {
	p, err := c.of.Check(now)
	if err != nil {
		return nil, err
	}
	in, err := p.In(c.project)
	return &in, err
}

// Verifier checks credentials in memory. One per process: it holds all API keys by hash, the public signing keys and the sessions seen lately, and follows the API's change feed. No lock and no I/O on the
// path of a known credential; about 300 bytes a key.
//
// When the API is away, known credentials go on for 15 minutes; then everything is refused with ErrKeysStale.
type Verifier struct {
	api    API
	now    clock.Clock
	log    *slog.Logger
	shards [256]atomic.Pointer[map[[32]byte]*Credential] // by the first byte of the hash; replaced as a whole on change

	signing atomic.Pointer[map[string]ed25519.PublicKey]
	setup   atomic.Bool // the installation has an owner
	money   moneyFeed
	fresh   atomic.Int64 // last answer of the feed, unix nanoseconds

	limits limitFeed

	poll    sync.Mutex // one reader of the feed at a time; guards version
	version int64

	mu       sync.Mutex // guards the four below
	tokens   map[[32]byte]tokenEntry
	sessions map[string]weak.Pointer[Credential] // alive while a token or a stream holds it
	negative map[[32]byte]time.Time
	lookups  int
	second   int64

	flight singleflight.Group
	parser *jwt.Parser
}

type tokenEntry struct {
	cred    *Credential
	expires time.Time
}

// NewVerifier makes a Verifier over the local service or a client of it. It answers at once; Run keeps it fresh.
func NewVerifier(api API, now clock.Clock, log *slog.Logger) *Verifier {
	v := &Verifier{api: api, now: now, log: log.With("component", "user.verifier"), tokens: map[[32]byte]tokenEntry{}, sessions: map[string]weak.Pointer[Credential]{}, negative: map[[32]byte]time.Time{}}
	for i := range v.shards {
		v.shards[i].Store(&map[[32]byte]*Credential{})
	}
	v.signing.Store(&map[string]ed25519.PublicKey{})
	v.fresh.Store(now().UnixNano())
	v.parser = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway), jwt.WithTimeFunc(func() time.Time { return v.now() }))
	return v
}

// Run follows the change feed until ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	failing := false
	for n := 0; ; n++ {
		err := v.Refresh(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			v.log.WarnContext(ctx, "change feed away; known credentials go on", "error", err)
		}
		failing = err != nil
		if n%150 == 0 {
			v.sweep()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Refresh reads the change feed once. The local service calls it after each change of rights, so that in one process the change holds for the next request.
func (v *Verifier) Refresh(ctx context.Context) error {
	v.poll.Lock()
	defer v.poll.Unlock()
	var seen map[[32]byte]struct{} // keys that exist, when all are read anew
	since := v.version
	if since != 0 && v.now().UnixNano()-v.fresh.Load() > int64(gapMost) {
		since, seen = 0, map[[32]byte]struct{}{}
	}
	for {
		first := since == 0
		c, err := v.api.Changes(ctx, since)
		if err != nil {
			return err
		}
		if err := v.apply(ctx, c, first); err != nil {
			return err
		}
		since = c.Version
		if seen != nil {
			for _, k := range c.Keys {
				if h, ok := keyHash(k.Hash); ok {
					seen[h] = struct{}{}
				}
			}
			if c.More {
				continue // half of it is no news
			}
			v.forget(seen)
			seen = nil
		}
		v.version = since
		v.setup.Store(c.Setup)
		v.fresh.Store(v.now().UnixNano())
		if !c.More {
			return nil
		}
	}
}

// forget ends the keys that exist no more, and has all sessions asked for again.
func (v *Verifier) forget(seen map[[32]byte]struct{}) {
	for i := range v.shards {
		for h, c := range *v.shards[i].Load() {
			if _, ok := seen[h]; !ok {
				c.state.Store(&credState{principal: c.state.Load().principal, err: ErrKeyRevoked})
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.sessions {
		if c := w.Value(); c != nil {
			next := *c.state.Load()
			next.stale = true
			c.state.Store(&next)
		}
	}
}

// apply takes one page of changes in.
func (v *Verifier) apply(ctx context.Context, c Changes, first bool) error {
	v.money.apply(c)
	v.limits.apply(c.Limits)
	if len(c.Keys) > 0 {
		v.setKeys(c.Keys)
	}
	if c.Signing || first {
		if err := v.loadSigning(ctx); err != nil {
			return err
		}
	}
	for _, id := range c.Sessions {
		v.mu.Lock()
		cred := v.sessions[id].Value()
		v.mu.Unlock()
		if cred == nil {
			continue
		}
		next := *cred.state.Load()
		next.stale = true
		cred.state.Store(&next)
		if err := v.loadSession(ctx, id, cred); err != nil {
			return err
		}
	}
	return nil
}

// setKeys replaces the shards that the changed keys fall into.
func (v *Verifier) setKeys(keys []KeyGrant) {
	changed := map[byte]map[[32]byte]*Credential{}
	for _, k := range keys {
		h, ok := keyHash(k.Hash)
		if !ok {
			continue
		}
		old := *v.shards[h[0]].Load()
		if c := old[h]; c != nil {
			c.state.Store(stateOf(k))
			continue
		}
		m := changed[h[0]]
		if m == nil {
			m = make(map[[32]byte]*Credential, len(old)+1)
			for k, c := range old {
				m[k] = c
			}
			changed[h[0]] = m
		}
		if c := m[h]; c != nil {
			c.state.Store(stateOf(k))
			continue
		}
		c := &Credential{}
		c.state.Store(stateOf(k))
		m[h] = c
	}
	for i, m := range changed {
		v.shards[i].Store(&m)
	}
	v.mu.Lock()
	clear(v.negative)
	v.mu.Unlock()
}

func keyHash(s string) (h [32]byte, ok bool) {
	n, err := hex.Decode(h[:], []byte(s))
	return h, err == nil && n == len(h)
}

func stateOf(k KeyGrant) *credState {
	s := &credState{principal: k.Principal, expires: k.ExpiresAt, limits: k.Limits, strict: k.Strict}
	for _, text := range k.IPAllow {
		if p, err := netip.ParsePrefix(text); err == nil {
			s.allow = append(s.allow, p)
		}
	}
	if len(k.IPAllow) > 0 && s.allow == nil {
		s.allow = []netip.Prefix{} // a list that cannot be read lets nobody in
	}
	switch k.Status {
	case KeyActive:
	case KeyExpired:
		s.err = ErrKeyExpired
	case KeySuspended:
		s.err = ErrSuspended
	default:
		s.err = ErrKeyRevoked
	}
	return s
}

func (v *Verifier) loadSigning(ctx context.Context) error {
	keys, err := v.api.SigningKeys(ctx)
	if err != nil {
		return err
	}
	m := make(map[string]ed25519.PublicKey, len(keys))
	for _, k := range keys {
		if len(k.Public) == ed25519.PublicKeySize {
			m[k.Kid] = k.Public
		}
	}
	old := *v.signing.Load()
	v.signing.Store(&m)
	for kid := range old {
		if _, still := m[kid]; !still { // tokens of a dropped key end now
			v.mu.Lock()
			clear(v.tokens)
			v.mu.Unlock()
			break
		}
	}
	return nil
}

// loadSession asks for the principal of a session and stores it. Refusals are stored too; only a failing API is an error.
func (v *Verifier) loadSession(ctx context.Context, id string, c *Credential) error {
	p, err := v.api.Session(ctx, id)
	if err != nil {
		if k := fault.KindOf(err); k != fault.Unauthenticated && k != fault.Forbidden {
			return err
		}
		c.state.Store(&credState{err: err})
		return nil
	}
	c.state.Store(&credState{principal: p})
	return nil
}

// Credential finds the credential that a text stands for. It does not say that it holds: Check does. Errors: ErrMissingKey, ErrInvalidKey, ErrInvalidToken, ErrSessionExpired, ErrKeysStale.
func (v *Verifier) Credential(ctx context.Context, text string) (*Credential, error) {
	if text == "" {
		return nil, ErrMissingKey
	}
	now := v.now()
	if now.UnixNano()-v.fresh.Load() > int64(staleMax) {
		return nil, ErrKeysStale
	}
	if !LooksLikeKey(text) {
		return v.token(ctx, text, now)
	}
	if !wellFormed(text) {
		return nil, ErrInvalidKey
	}
	h := hashText(text)
	if c := (*v.shards[h[0]].Load())[h]; c != nil {
		return c, nil
	}
	return v.unknown(ctx, h, now)
}

// unknown asks for a key that the snapshot does not hold: made a moment ago, or made up. A flood of made-up keys costs one map entry each, up to a limit, and lookupRate questions a second.
func (v *Verifier) unknown(ctx context.Context, h [32]byte, now time.Time) (*Credential, error) {
	v.mu.Lock()
	if until, ok := v.negative[h]; ok && now.Before(until) {
		v.mu.Unlock()
		return nil, ErrInvalidKey
	}
	if s := now.Unix(); s != v.second {
		v.second, v.lookups = s, 0
	}
	v.lookups++
	over := v.lookups > lookupRate
	v.mu.Unlock()
	if over {
		return nil, ErrInvalidKey
	}
	text := hex.EncodeToString(h[:])
	_, err, _ := v.flight.Do(text, func() (any, error) {
		return nil, v.learn(context.WithoutCancel(ctx), text)
	})
	switch {
	case errors.Is(err, ErrInvalidKey):
		v.mu.Lock()
		if len(v.negative) >= negativeMost {
			clear(v.negative)
		}
		v.negative[h] = now.Add(negativeKeep)
		v.mu.Unlock()
		return nil, ErrInvalidKey
	case err != nil:
		return nil, ErrKeysStale.Wrap(err)
	}
	if c := (*v.shards[h[0]].Load())[h]; c != nil {
		return c, nil
	}
	return nil, ErrInvalidKey
}

// learn asks for a key that the feed has not brought yet, and then for all that the feed has: its limits and budgets may be as new as the key.
func (v *Verifier) learn(ctx context.Context, hash string) error {
	v.poll.Lock() // an older answer must not overwrite what the feed brings
	k, err := v.api.KeyByHash(ctx, hash)
	v.poll.Unlock()
	if err != nil {
		return err
	}
	if err := v.Refresh(ctx); err != nil {
		return err
	}
	if h, ok := keyHash(k.Hash); ok && (*v.shards[h[0]].Load())[h] == nil {
		v.setKeys([]KeyGrant{k})
	}
	return nil
}

// token finds the session behind an access token. Verified tokens are remembered by hash until they expire, so the signature is checked once.
func (v *Verifier) token(ctx context.Context, text string, now time.Time) (*Credential, error) {
	h := hashText(text)
	v.mu.Lock()
	e, ok := v.tokens[h]
	v.mu.Unlock()
	if ok {
		if now.After(e.expires) {
			return nil, ErrSessionExpired
		}
		if s := e.cred.state.Load(); !s.stale {
			return e.cred, nil
		}
	}
	c, err := v.parse(text)
	if err != nil {
		return nil, err
	}
	cred, err := v.session(ctx, c.SessionID)
	if err != nil {
		return nil, ErrKeysStale.Wrap(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.tokens) >= tokensMost {
		clear(v.tokens)
	}
	v.tokens[h] = tokenEntry{cred, c.ExpiresAt.Add(leeway)}
	return cred, nil
}

// session returns the credential of a session, asked for if it is unknown or stale. It is listed before it is asked for and no feed is read meanwhile, so that a revocation cannot slip between.
func (v *Verifier) session(ctx context.Context, id string) (*Credential, error) {
	v.mu.Lock()
	c := v.sessions[id].Value()
	v.mu.Unlock()
	if c != nil && !c.state.Load().stale {
		return c, nil
	}
	v.poll.Lock()
	defer v.poll.Unlock()
	v.mu.Lock()
	if c = v.sessions[id].Value(); c == nil {
		c = &Credential{}
		c.state.Store(&credState{err: ErrInvalidToken, stale: true})
		v.sessions[id] = weak.Make(c)
	}
	v.mu.Unlock()
	if !c.state.Load().stale {
		return c, nil
	}
	return c, v.loadSession(context.WithoutCancel(ctx), id, c)
}

// parse checks form, signature, type, issuer, audience and times of an access token.
func (v *Verifier) parse(text string) (*claims, error) {
	var c claims
	t, err := v.parser.ParseWithClaims(text, &c, func(t *jwt.Token) (any, error) {
		if typ, _ := t.Header["typ"].(string); typ != tokenType {
			return nil, ErrInvalidToken
		}
		kid, _ := t.Header["kid"].(string)
		if k, ok := (*v.signing.Load())[kid]; ok {
			return k, nil
		}
		return nil, ErrInvalidToken
	})
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, ErrSessionExpired.With("the access token has expired").WithHint("Refresh it: POST /api/v1/auth/refresh")
	case err != nil || !t.Valid || c.SessionID == "":
		return nil, ErrInvalidToken
	}
	return &c, nil
}

// Authenticate reads the credential of a request: `Authorization: Bearer` or `x-api-key`. Before the installation has an owner every request is refused with ErrSetupRequired.
func (v *Verifier) Authenticate(ctx context.Context, r *http.Request) (auth.Principal, error) {
	if err := v.NeedSetup(ctx); err != nil {
		return auth.Principal{}, err
	}
	c, err := v.Credential(ctx, FromRequest(r))
	if err == nil {
		c, err = c.For(r)
	}
	if err != nil {
		return auth.Principal{}, err
	}
	p, err := c.Check(v.now())
	if err != nil {
		return auth.Principal{}, err
	}
	return *p, nil
}

// NeedSetup returns ErrSetupRequired until the installation has an owner.
func (v *Verifier) NeedSetup(ctx context.Context) error {
	if v.setup.Load() {
		return nil
	}
	if err := v.Refresh(ctx); err != nil {
		return ErrKeysStale.Wrap(err)
	}
	if !v.setup.Load() {
		return ErrSetupRequired
	}
	return nil
}

// Age is the time since the change feed last answered.
func (v *Verifier) Age() time.Duration { return time.Duration(v.now().UnixNano() - v.fresh.Load()) }

// FromRequest returns the credential text of a request, "" without one.
func FromRequest(r *http.Request) string {
	if a := r.Header.Get("Authorization"); len(a) > 7 && strings.EqualFold(a[:7], "bearer ") {
		return strings.TrimSpace(a[7:])
	}
	return r.Header.Get("X-Api-Key")
}

// sweep forgets expired tokens, sessions that nobody holds and old negative entries.
func (v *Verifier) sweep() {
	now := v.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for h, e := range v.tokens {
		if now.After(e.expires) {
			delete(v.tokens, h)
		}
	}
	for id, c := range v.sessions {
		if c.Value() == nil {
			delete(v.sessions, id)
		}
	}
	for h, until := range v.negative {
		if now.After(until) {
			delete(v.negative, h)
		}
	}
}

// Of returns the credential behind a principal that was proved otherwise (a ticket), so that its changes are followed like any other's.
func (v *Verifier) Of(ctx context.Context, p auth.Principal) (*Credential, error) {
	if p.SessionID != "" {
		c, err := v.session(ctx, p.SessionID)
		if err != nil {
			return nil, ErrKeysStale.Wrap(err)
		}
		return c, nil
	}
	for i := range v.shards {
		for _, c := range *v.shards[i].Load() {
			if c.state.Load().principal.KeyID == p.KeyID && p.KeyID != "" {
				return c, nil
			}
		}
	}
	return nil, ErrInvalidKey
}
