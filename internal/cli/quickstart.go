package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"maas/internal/maas"
	"maas/internal/platform/fault"
)

// ErrQuickstart is a quickstart in an installation that somebody else has set up.
var ErrQuickstart = fault.New(fault.Conflict, "cli.quickstart_owned", "this installation already has an owner, so there is nothing to set up").WithHint("Sign in with your own account; the server runs")

// starter is what a quickstart made. It is kept in the data folder, readable by its user only, so that the next start can print it again.
type starter struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Key      string `json:"key"`
	Model    string `json:"model"`
}

// quickstart makes, through the public API, a first owner, the demo model, a deployment of it and a key, and prints how to use them. Repeating it prints the same again.
func (a *app) quickstart(ctx context.Context, p *maas.Process, cfg maas.Config) error {
	file := filepath.Join(cfg.Data, "quickstart.json")
	var s starter
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	cl := &client{p.URL(), "", newHTTP()}
	var state struct {
		SetupRequired bool `json:"setup_required"`
	}
	if err := cl.do(ctx, http.MethodGet, "/auth/config", nil, &state); err != nil {
		return err
	}
	switch {
	case state.SetupRequired:
		s = starter{Email: "admin@example.com", Password: password()}
		if err := s.save(file); err != nil { // before it is used: a crash in between must not lock the owner out
			return err
		}
		if err := cl.do(ctx, http.MethodPost, "/auth/setup", map[string]any{"email": s.Email, "password": s.Password, "name": "Admin"}, nil); err != nil {
			return err
		}
	case s.Email == "":
		a.greet(p)
		return ErrQuickstart
	}
	var login session
	if err := cl.do(ctx, http.MethodPost, "/auth/login", map[string]any{"email": s.Email, "password": s.Password, "client": "cli"}, &login); err != nil {
		return err
	}
	cl.token = login.AccessToken
	if err := a.starterModel(ctx, cl, &s); err != nil {
		return err
	}
	if s.Key == "" {
		var k keyView
		if err := cl.do(ctx, http.MethodPost, "/keys", map[string]any{"name": "quickstart"}, &k); err != nil {
			return err
		}
		s.Key = k.Secret
	}
	if err := s.save(file); err != nil {
		return err
	}
	a.say(`
maas %s is running.

  Console  %s
  Login    %s
  Password %s
  (both are kept in %s)

  This works when pasted:

curl %s/v1/chat/completions \
  -H "Authorization: Bearer %s" -H "Content-Type: application/json" \
  -d '{"model":"%s","messages":[{"role":"user","content":"hi"}],"stream":true}'

  The demo model is a small generated toy network, not a language model. Next:
    maas login --url %s --email %s
    maas model import PATH --name my-model     a GGUF file or a safetensors folder
    maas provider add --name NAME --base-url URL --key-stdin     an OpenAI-compatible URL
`, Version, p.URL(), s.Email, s.Password, file, p.URL(), s.Key, s.Model, p.URL(), s.Email)
	return nil
}

// starterModel deploys the demo model unless something is deployed already, and waits for it.
func (a *app) starterModel(ctx context.Context, cl *client, s *starter) error {
	ds, err := all[deploymentView](ctx, cl, "/inference/deployments")
	if err != nil {
		return err
	}
	if s.Model == "" {
		s.Model = "demo"
	}
	var d deploymentView
	for _, x := range ds {
		if x.Name == s.Model {
			d = x
		}
	}
	if d.ID == "" && len(ds) > 0 {
		return nil // somebody has begun real work: leave it alone
	}
	if d.ID == "" {
		var m modelView
		if err := cl.do(ctx, http.MethodPost, "/models/demo", nil, &m); err != nil && fault.KindOf(err) != fault.Conflict {
			return err
		}
		if m.Name == "" {
			m.Name = "demo"
		}
		if err := cl.do(ctx, http.MethodPost, "/inference/deployments", map[string]any{"name": s.Model, "model": m.Name}, &d); err != nil {
			return err
		}
	}
	if d.Desired == "stopped" {
		return nil
	}
	_, err = a.awaitDeployment(ctx, cl, d, time.Minute)
	return err
}

func (s starter) save(file string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := file + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// password makes one of 20 characters that can be typed: about 100 bits.
func password() string {
	const alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
	b := make([]byte, 20)
	_, _ = rand.Read(b) // never fails since Go 1.24
	var s strings.Builder
	for i, x := range b {
		if i > 0 && i%5 == 0 {
			s.WriteByte('-')
		}
		s.WriteByte(alphabet[int(x)%len(alphabet)])
	}
	return s.String()
}
