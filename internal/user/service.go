package user

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/mail"
	"maas/internal/platform/object"
	"maas/internal/platform/seal"
	"maas/internal/user/login"
)

// Migrations holds the tables user_*.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Config of the service.
type Config struct {
	SecureCookies    bool          `yaml:"secure_cookies" doc:"Mark the session cookie Secure also when TLS ends in front of maas"`
	Registration     string        `yaml:"registration" doc:"Who may make an account: closed (nobody), invite (people with an invitation), approval (everybody, and an admin approves) or open (everybody)."`
	RegistrationRole string        `yaml:"registration_role" doc:"Role of people who register without an invitation: admin, developer or viewer."`
	VerifyEmail      bool          `yaml:"verify_email" doc:"Whoever registers must open a link in a mail first; needs mail.url."`
	Billing          BillingConfig `yaml:"billing"`
	Login            login.Config  `yaml:"login"`
	MailDomains      []string      `yaml:"mail_domains" doc:"Domains whose addresses may register without an invitation; empty = all."`
}

// Defaults returns the configuration of a fresh installation.
func Defaults() Config {
	return Config{Registration: RegistrationInvite, RegistrationRole: string(Developer), VerifyEmail: true, Login: login.Defaults(), Billing: BillingConfig{Currency: defaultCurrency}}
}

// FirstOwner is the first owner for a set-up without a person: MAAS_ADMIN_EMAIL and MAAS_ADMIN_PASSWORD.
type FirstOwner struct {
	Email    string `yaml:"email" doc:"Address of the first owner; used once, when there is none"`
	Password string `yaml:"password" secret:"true" doc:"Password of the first owner, at least 10 characters"`
}

// Deps is what the service needs.
type Deps struct {
	DB      *db.DB
	Log     *slog.Logger
	Now     clock.Clock
	Metrics prometheus.Registerer // nil: none
	Seal    *seal.Ring
	Mail    *mail.Sender  // nil: this installation sends no mail
	Objects object.Bucket // for exports of accounts
	// PublicURL is where people reach the installation: links of mails, redirects of providers, the relying party of passkeys. nil: http://localhost.
	PublicURL func() string
	Config    Config
	Admin     FirstOwner
	Version   string // shown by /auth/config
	Demo      bool   // the server can make the built-in demo model
}

// Service is the user service. Its tables belong to no single tenant, so it works on the system handle and names the tenant in every statement.
type Service struct {
	Deps
	db        *db.DB
	hasher    *hasher
	damp      *damper
	codes     *damper // of second factors: fewer free tries, by account
	rates     *rates
	providers *login.Set
	signer    atomic.Pointer[signer]
	refresh   []byte // secret of successor
	verifier  *Verifier
	setupDone atomic.Bool
	setupCode string // shown on the server's console; wanted from other machines
	metrics   metrics
	prices    sync.Map // id -> PriceVersion: versions never change
}

type metrics struct {
	logins, refreshes, usageRows *prometheus.CounterVec
	letters                      *prometheus.CounterVec
	ledgerBroken                 prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		logins:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_user_logins_total", Help: "Sign-ins by result."}, []string{"result"}),
		letters:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_user_letters_total", Help: "Mails of accounts by kind and result."}, []string{"kind", "result"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_user_refreshes_total", Help: "Uses of refresh tokens by result."}, []string{"result"}),
		usageRows: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_user_usage_rows_total", Help: "Usage rows by result: booked, or known before."}, []string{"result"}),

		ledgerBroken: prometheus.NewGauge(prometheus.GaugeOpts{Name: "maas_user_ledger_broken_checks", Help: "Invariants of the ledger that the last nightly check found broken. Must be 0."}),
	}
	if r != nil {
		r.MustRegister(m.letters, m.logins, m.refreshes, m.usageRows, m.ledgerBroken)
	}
	return m
}

// New makes the service. The tables must be there. It makes the first signing key and, where Admin is set and there is no owner, the first owner.
func New(ctx context.Context, d Deps) (*Service, error) {
	s := &Service{Deps: d, db: d.DB.Within(), hasher: newHasher(), damp: newDamper(dampRules), codes: newDamper(codeRules), rates: newRates(), refresh: d.Seal.Derive("user.refresh"), metrics: newMetrics(d.Metrics)}
	s.Log = d.Log.With("component", "user")
	var err error
	if s.providers, err = login.New(d.Config.Login, d.Now); err != nil {
		return nil, err
	}
	if s.PublicURL == nil {
		s.PublicURL = func() string { return "http://localhost" }
	}
	if s.Config.Registration == "" { // made without a configuration
		s.Config.Registration, s.Config.RegistrationRole = RegistrationInvite, string(Developer)
	}
	if err := s.Config.validate(s.Mail != nil); err != nil {
		return nil, err
	}
	if err := s.checkBilling(ctx); err != nil {
		return nil, err
	}
	var code [5]byte
	_, _ = rand.Read(code[:])
	s.setupCode = hex.EncodeToString(code[:])
	s.verifier = NewVerifier(s, d.Now, d.Log)
	if err := s.rotate(ctx); err != nil {
		return nil, err
	}
	if _, err := s.needsSetup(ctx); err != nil {
		return nil, err
	}
	if err := s.setupFromConfig(ctx); err != nil {
		return nil, err
	}
	return s, s.verifier.Refresh(ctx)
}

// Verifier is this process's check of credentials.
func (s *Service) Verifier() *Verifier { return s.verifier }

// Authenticate reads the credential of a request: it is the web.Authenticator of this process.
func (s *Service) Authenticate(ctx context.Context, r *http.Request) (auth.Principal, error) {
	return s.verifier.Authenticate(ctx, r)
}

// SetupCode is the one-time code that first set-up wants from other machines; "" when the installation has an owner. The command line prints it at start.
func (s *Service) SetupCode() string {
	if s.setupDone.Load() {
		return ""
	}
	return s.setupCode
}

// Run keeps credentials fresh, rotates signing keys and prunes, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(time.Minute)
		defer t.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			s.damp.sweep(s.Now())
			s.codes.sweep(s.Now())
			s.rates.sweep(s.Now())
			if err := s.sweepLeases(ctx); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "free leases", "error", err)
			}
			if err := s.rotate(ctx); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "rotate signing keys", "error", err)
			}
			if n%60 == 0 {
				if err := s.dropUnproven(ctx); err != nil && ctx.Err() == nil {
					s.Log.ErrorContext(ctx, "drop registrations that nobody confirmed", "error", err)
				}
				if err := errors.Join(s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return prune(ctx, tx, s.Now()) }), s.pruneExports(ctx)); err != nil && ctx.Err() == nil {
					s.Log.ErrorContext(ctx, "prune sessions", "error", err)
				}
			}
		}
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.watchGrants(ctx)
	}()
	err := s.verifier.Run(ctx)
	<-done
	<-ended
	return err
}

// changed refreshes this process's view after a commit, so that the change holds for the very next request here. Other processes poll.
func (s *Service) changed(tx *db.Tx) {
	tx.After(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.verifier.Refresh(ctx); err != nil {
			s.Log.WarnContext(ctx, "refresh credentials after a change", "error", err)
		}
	})
}

// publish writes an event of a tenant.
func (s *Service) publish(ctx context.Context, tx *db.Tx, tenant string, e event.Event) error {
	return event.Publish(auth.AsSystem(ctx, tenant), tx, e)
}

// Changes implements API.
func (s *Service) Changes(ctx context.Context, since int64) (Changes, error) {
	const page = 5000
	c := Changes{Version: since}
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		now, err := counter(ctx, q, "rights")
		if err != nil {
			return err
		}
		setup, err := counter(ctx, q, "setup")
		if err != nil {
			return err
		}
		c.Setup = setup > 0
		if now == since {
			return nil
		}
		signing, err := counter(ctx, q, "signing")
		if err != nil {
			return err
		}
		c.Signing = signing > since
		keys, more, err := keysSince(ctx, q, since, page)
		if err != nil {
			return err
		}
		if c.Keys, err = s.grants(ctx, q, keys, since); err != nil {
			return err
		}
		c.Version, c.More = now, more
		if more {
			c.Version = keys[len(keys)-1].version
		}
		if c.Limits, err = limitsSince(ctx, q, since); err != nil {
			return err
		}
		if err := moneySince(ctx, q, since, &c); err != nil {
			return err
		}
		if since == 0 {
			return nil
		}
		c.Sessions, err = sessionsSince(ctx, q, since)
		return err
	})
	return c, err
}

// grants resolves keys, also by the texts from before their rotations.
func (s *Service) grants(ctx context.Context, q db.Querier, keys []keyRow, since int64) ([]KeyGrant, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var tenants []string
	for _, k := range keys {
		tenants = append(tenants, k.tenantID)
	}
	b, err := rightsOf(ctx, q, tenants, s.Now())
	if err != nil {
		return nil, err
	}
	old, err := keySecretsSince(ctx, q, since, keys[len(keys)-1].version)
	if err != nil {
		return nil, err
	}
	list := make([]KeyGrant, 0, len(keys)+len(old))
	for _, k := range keys {
		g := k.grant(b)
		list = append(list, g)
		for _, o := range old[k.ID] {
			list = append(list, o.grant(g))
		}
	}
	return list, nil
}

// KeyByHash implements API.
func (s *Service) KeyByHash(ctx context.Context, hash string) (KeyGrant, error) {
	var g KeyGrant
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		k, err := keyByHash(ctx, q, hash)
		if isNoRow(err) {
			return ErrInvalidKey
		}
		if err != nil {
			return err
		}
		b, err := rightsOf(ctx, q, []string{k.tenantID}, s.Now())
		g = k.grant(b)
		return err
	})
	return g, err
}

// Session implements API.
func (s *Service) Session(ctx context.Context, sid string) (auth.Principal, error) {
	var p auth.Principal
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		p, err = sessionPrincipal(ctx, q, sid, s.Now())
		return err
	})
	return p, err
}

// SigningKeys implements API.
func (s *Service) SigningKeys(ctx context.Context) ([]PublicKey, error) {
	var list []PublicKey
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		keys, err := signingKeys(ctx, q)
		for _, k := range keys {
			list = append(list, PublicKey{k.kid, k.public, k.state})
		}
		return err
	})
	return list, err
}

// JWKS answers GET /.well-known/jwks.json.
func (s *Service) JWKS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys, err := s.SigningKeys(r.Context())
		if err != nil {
			http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
			return
		}
		serveJWKS(w, keys)
	})
}

// rotate moves the signing keys on where their calendar says so, and loads the one that signs.
func (s *Service) rotate(ctx context.Context) error {
	var active signingKey
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		for range 4 { // an empty table takes two steps: make, promote
			keys, err := signingKeys(ctx, tx)
			if err != nil {
				return err
			}
			for _, k := range keys {
				if k.state == signActive {
					active = k
				}
			}
			p := plan(keys, s.Now())
			if !p.makeNext && p.promote == "" && len(p.drop) == 0 {
				return nil
			}
			if err := s.rotateStep(ctx, tx, p); err != nil {
				return err
			}
			s.changed(tx)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if have := s.signer.Load(); have != nil && have.kid == active.kid {
		return nil
	}
	return s.loadSigner(ctx, active)
}

func (s *Service) rotateStep(ctx context.Context, tx *db.Tx, p rotation) error {
	now := s.Now()
	for _, kid := range p.drop {
		if _, err := tx.Exec(ctx, `DELETE FROM user_signing_key WHERE kid = $1`, kid); err != nil {
			return err
		}
	}
	if p.makeNext {
		if err := s.makeSigning(ctx, tx, now); err != nil {
			return err
		}
	}
	if p.promote != "" {
		if _, err := tx.Exec(ctx, `UPDATE user_signing_key SET state = 'retired', retire_at = $1 WHERE state = 'active'`, db.Micro(now.Add(signingRetired))); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE user_signing_key SET state = 'active', not_before = $2 WHERE kid = $1`, p.promote, db.Micro(now)); err != nil {
			return err
		}
	}
	return bumpSigning(ctx, tx)
}

func (s *Service) makeSigning(ctx context.Context, tx *db.Tx, now time.Time) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	k := signingKey{kid: id.New("jwk"), public: public, state: signNext, notBefore: now}
	if k.privateSealed, err = s.Seal.Seal(ctx, signingPlace(k.kid), private.Seed()); err != nil {
		return err
	}
	return insertSigning(ctx, tx, k)
}

func signingPlace(kid string) seal.Place {
	return seal.Place{Table: "user_signing_key", Column: "private_sealed", Row: kid}
}

func (s *Service) loadSigner(ctx context.Context, k signingKey) error {
	if k.kid == "" {
		return fault.ErrInternal.Wrap(errors.New("no active signing key"))
	}
	seed, err := s.Seal.Open(ctx, signingPlace(k.kid), k.privateSealed)
	if err != nil {
		return err
	}
	if len(seed) != ed25519.SeedSize {
		return fault.ErrInternal.Wrap(errors.New("signing key of wrong length"))
	}
	s.signer.Store(&signer{k.kid, ed25519.NewKeyFromSeed(seed)})
	return nil
}

// RotateNow makes a new signing key, signs with it at once and drops the old ones: every access token made before stops working and is refreshed.
func (s *Service) RotateNow(ctx context.Context) error {
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM user_signing_key WHERE kid <> ''`); err != nil {
			return err
		}
		s.changed(tx)
		return bumpSigning(ctx, tx)
	})
	if err != nil {
		return err
	}
	return s.rotate(ctx)
}
