package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"maas/internal/platform/config"
	"maas/internal/platform/fault"
)

// Errors of the client side.
var (
	ErrNotLoggedIn = fault.New(fault.Unauthenticated, "cli.not_logged_in", "no server and credential are known").WithHint("maas login --url http://127.0.0.1:8080 --email you@example.com, or set MAAS_URL and MAAS_TOKEN")
	ErrUnreachable = fault.New(fault.Unavailable, "cli.unreachable", "the server did not answer").WithHint("Is it running? `maas serve` starts one")
	ErrAnswer      = fault.New(fault.Upstream, "cli.bad_answer", "the server's answer could not be read")
)

// credential is what `maas login` keeps, in the user's configuration folder, readable by the user only.
type credential struct {
	URL          string    `json:"url"`
	Email        string    `json:"email"`
	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token"`
	ExpiresAt    time.Time `json:"expires_at"`
}

func credentialFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "maas", "credential.json"), nil
}

func loadCredential() (credential, error) {
	var c credential
	file, err := credentialFile()
	if err != nil {
		return c, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return c, ErrNotLoggedIn
	}
	return c, json.Unmarshal(b, &c)
}

func (c credential) save() error {
	file, err := credentialFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	tmp := file + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// client speaks the management API.
type client struct {
	base, token string
	http        *http.Client
}

// newHTTP has no overall time limit (streams and uploads are long) but limits for each silent phase.
func newHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: 10 * time.Minute, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}}
}

// connect finds server and credential: flags, then environment, then `maas login` (refreshed when it has run out).
func (a *app) connect(ctx context.Context) (*client, error) {
	base, token := first(a.url, config.Env("MAAS_URL")), first(a.token, config.Env("MAAS_TOKEN"))
	if base == "" || token == "" {
		c, err := loadCredential()
		if err != nil {
			return nil, ErrNotLoggedIn
		}
		if base != "" && strings.TrimRight(base, "/") != c.URL {
			return nil, ErrNotLoggedIn.With("you are signed in at %s, not at %s", c.URL, base)
		}
		base = c.URL
		if token == "" {
			if time.Until(c.ExpiresAt) < 30*time.Second {
				if err := c.refresh(ctx); err != nil {
					return nil, err
				}
			}
			token = c.AccessToken
		}
	}
	return &client{strings.TrimRight(base, "/"), token, newHTTP()}, nil
}

func first(options ...string) string {
	for _, o := range options {
		if o != "" {
			return o
		}
	}
	return ""
}

func (c *credential) refresh(ctx context.Context) error {
	var s session
	anon := &client{c.URL, "", newHTTP()}
	if err := anon.do(ctx, http.MethodPost, "/auth/refresh", map[string]any{"refresh_token": c.RefreshToken, "client": "cli"}, &s); err != nil {
		return err
	}
	c.take(s)
	return c.save()
}

func (c *credential) take(s session) {
	c.AccessToken, c.ExpiresAt = s.AccessToken, time.Now().Add(time.Duration(s.ExpiresIn)*time.Second)
	if s.RefreshToken != "" {
		c.RefreshToken = s.RefreshToken
	}
}

type session struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
}

// do sends one JSON request to the management API. out may be nil, or *json.RawMessage to keep the answer as it came.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.send(ctx, method, "/api/v1"+path, body, func(h http.Header) {
		if in != nil {
			h.Set("Content-Type", "application/json")
		}
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return ErrAnswer.With("%s %s: %v", method, path, err)
	}
	return nil
}

// patience is how long a command that waits for work puts up with a server that does not answer: a restart.
const patience = time.Minute

// poll asks for the state of work that goes on by itself, through a restart of the server.
func (c *client) poll(ctx context.Context, path string, out any) error {
	for began := time.Now(); ; {
		err := c.do(ctx, http.MethodGet, path, nil, out)
		if err == nil || fault.KindOf(err) != fault.Unavailable || time.Since(began) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// send does one request and turns every answer >= 400 into the fault it describes.
func (c *client) send(ctx context.Context, method, path string, body io.Reader, header func(http.Header)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "maas-cli/"+Version)
	if header != nil {
		header(req.Header)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, ErrUnreachable.With("%s did not answer: %v", c.base, err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problemOf(resp)
}

// problemOf reads problem+json, or the OpenAI error form, into a fault.
func problemOf(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var p struct {
		Code, Title, Detail, Hint string
		RequestID                 string        `json:"request_id"`
		Errors                    []fault.Field `json:"errors"`
		Error                     struct{ Message, Code string }
	}
	if json.Unmarshal(b, &p) != nil || p.Code == "" && p.Error.Message == "" {
		return ErrAnswer.With("the server answered %s", resp.Status)
	}
	if p.Code == "" {
		p.Code, p.Title = first(p.Error.Code, "error"), p.Error.Message
	}
	kind := fault.Internal
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		kind = fault.Invalid
	case http.StatusUnauthorized:
		kind = fault.Unauthenticated
	case http.StatusForbidden:
		kind = fault.Forbidden
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		kind = fault.Conflict
	case http.StatusServiceUnavailable:
		kind = fault.Unavailable
	}
	hint := p.Hint
	if kind == fault.Internal && p.RequestID != "" {
		hint = strings.TrimSpace(hint + " (request " + p.RequestID + ")")
	}
	return &fault.Error{Kind: kind, Code: p.Code, Message: p.Title, Detail: p.Detail, Hint: hint, Fields: p.Errors}
}

// list is one page of a list; raw keeps the items for -o json.
type list[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// all follows the cursors of a list, at most 20 pages.
func all[T any](ctx context.Context, c *client, path string) ([]T, error) {
	var items []T
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	after := ""
	for range 20 {
		var l list[T]
		if err := c.do(ctx, http.MethodGet, path+after, nil, &l); err != nil {
			return nil, err
		}
		items = append(items, l.Items...)
		if l.Next == nil {
			break
		}
		after = sep + "after=" + url.QueryEscape(*l.Next)
	}
	if items == nil {
		items = []T{}
	}
	return items, nil
}

func sizeText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	div, exp := int64(unit), 0
	for m := n / unit; m >= unit; m /= unit {
		div *= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[exp])
}
