package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"maas/internal/platform/fault"
)

// Client speaks to one endpoint for control: models, health, metrics, the smoke request. Traffic of users goes through the gateway's own client.
type Client struct {
	ep   Endpoint
	http *http.Client
}

// NewClient makes a client of an endpoint. hc nil = dial the endpoint's own network and address, without a proxy; else hc must reach Host.
func NewClient(ep Endpoint, hc *http.Client) *Client {
	if hc == nil {
		d := &net.Dialer{Timeout: 5 * time.Second}
		hc = &http.Client{
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return d.DialContext(ctx, ep.Network, ep.Addr)
				},
				MaxIdleConnsPerHost: 1, IdleConnTimeout: 20 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &Client{ep: ep, http: hc}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// bodyLimit bounds what control calls read.
const bodyLimit = 4 << 20

// root is scheme and host.
func (c *Client) root() string {
	scheme := "http://"
	if c.ep.TLS {
		scheme = "https://"
	}
	return scheme + c.ep.Host
}

// call sends one request to scheme://host + path and returns status and at most 4 MiB of body. ErrUnavailable (with the cause) when no whole answer comes.
func (c *Client) call(ctx context.Context, method, path string, in any) (int, []byte, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.root()+path, body)
	if err != nil {
		return 0, nil, ErrUnavailable.With("the address %s cannot be used", c.root()).Wrap(err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json")
	if c.ep.Auth != "" {
		name := c.ep.AuthName
		if name == "" {
			name = "Authorization"
		}
		r.Header.Set(name, c.ep.Auth.Reveal())
	}
	for i := 0; i+1 < len(c.ep.Headers); i += 2 {
		r.Header.Set(c.ep.Headers[i], c.ep.Headers[i+1])
	}
	resp, err := c.http.Do(r)
	if refused, ok := errors.AsType[*fault.Error](err); ok { // the address or a redirect was refused by our own policy
		return 0, nil, refused
	}
	if err != nil {
		return 0, nil, ErrUnavailable.With("%s", plain(err)).Wrap(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return 0, nil, ErrUnavailable.With("the answer broke off: %s", plain(err)).Wrap(err)
	}
	return resp.StatusCode, b, nil
}

// plain shortens a network error to its last cause: "connection refused" instead of the whole chain with the URL.
func plain(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &op) && op.Err != nil:
		return op.Err.Error()
	}
	var u interface{ Unwrap() error }
	for errors.As(err, &u) {
		next := u.Unwrap()
		if next == nil {
			break
		}
		err = next
	}
	return err.Error()
}

// refusal turns a status that is no success into an error of this package, with the words of the engine.
func refusal(status int, body []byte) error {
	words := strings.TrimSpace(message(body))
	if len(words) > 300 {
		words = words[:300]
	}
	words = strings.ToValidUTF8(words, "")
	detail := fmt.Sprintf("status %d", status)
	if words != "" {
		detail += ": " + words
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUpstreamAuth.With("%s", detail)
	case http.StatusTooManyRequests:
		return ErrBusy.With("%s", detail)
	case http.StatusNotFound:
		return ErrUpstreamModel.With("%s", detail)
	default:
		return ErrUnavailable.With("%s", detail)
	}
}

// message finds the words in an OpenAI error body, a problem, or plain text.
func message(body []byte) string {
	var e struct {
		Error  json.RawMessage `json:"error"`
		Detail json.RawMessage `json:"detail"`
		Title  string          `json:"title"`
	}
	if json.Unmarshal(body, &e) != nil {
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) { // a page for browsers says nothing here
			return ""
		}
		return string(body)
	}
	var inner struct {
		Message string `json:"message"`
	}
	var text string
	switch {
	case json.Unmarshal(e.Error, &inner) == nil && inner.Message != "":
		return inner.Message
	case json.Unmarshal(e.Error, &text) == nil && text != "":
		return text
	case json.Unmarshal(e.Detail, &text) == nil && text != "":
		return text
	}
	return e.Title
}

// JSON calls BasePath + path and reads the answer into out (which may be nil). Errors are those of this package.
func (c *Client) JSON(ctx context.Context, method, path string, in, out any) error {
	status, body, err := c.call(ctx, method, c.ep.Path(path), in)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return refusal(status, body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return ErrUnavailable.With("the answer is not JSON").Wrap(err)
	}
	return nil
}

// Models lists the ids of /models.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
		Models []struct { // Gemini's form
			Name string `json:"name"`
		} `json:"models"`
	}
	path := "/models"
	switch c.ep.Dialect {
	case Anthropic:
		path += "?limit=1000"
	case Gemini:
		path += "?pageSize=1000"
	}
	if err := c.JSON(ctx, http.MethodGet, path, nil, &list); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(list.Data)+len(list.Models))
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	for _, m := range list.Models {
		ids = append(ids, strings.TrimPrefix(m.Name, "models/"))
	}
	return ids, nil
}

// Get reads a path outside BasePath ("/metrics", "/health") as status and text.
func (c *Client) Get(ctx context.Context, path string) (int, []byte, error) {
	return c.call(ctx, http.MethodGet, path, nil)
}

func text(err error) string {
	var e interface{ Text() string }
	if errors.As(err, &e) {
		return e.Text()
	}
	return err.Error()
}

// Open sends a request outside BasePath whose answer does not end, and returns its body as soon as the head says 200. The caller closes it. Errors are those of this package.
func (c *Client) Open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, c.root()+path, bytes.NewReader(b))
	if err != nil {
		return nil, ErrUnavailable.Wrap(err)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, ErrUnavailable.With("%s", plain(err)).Wrap(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close()
		return nil, refusal(resp.StatusCode, text)
	}
	return resp.Body, nil
}
