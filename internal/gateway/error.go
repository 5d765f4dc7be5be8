package gateway

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"maas/internal/inference"
	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/h1"
	"maas/internal/platform/meter"
	"maas/internal/platform/web"
	"maas/internal/user"
)

// The errors of admission.
var (
	ErrEndpoint        = fault.New(fault.NotFound, "gateway.endpoint_not_supported", "this endpoint is not offered here")
	ErrMethod          = fault.New(fault.Invalid, "gateway.method_not_allowed", "this endpoint does not take this method")
	ErrModelNotAllowed = fault.New(fault.Forbidden, "gateway.model_not_allowed", "this key may not call the model").WithHint("The key's list of models can be changed under API keys")
	ErrModelNotFound   = fault.New(fault.NotFound, "gateway.model_not_found", "there is no such model").WithHint("GET /v1/models lists the models you can call")
	ErrScope           = fault.New(fault.Forbidden, "gateway.scope_missing", "this credential may not call models")
	ErrBodyTooLarge    = fault.New(fault.TooLarge, "gateway.body_too_large", "the body is over the limit")
	ErrBodyTimeout     = fault.New(fault.Invalid, "gateway.body_timeout", "the body did not arrive in time")
	ErrMedia           = fault.New(fault.Invalid, "gateway.unsupported_media", "the body must be JSON, not compressed")
	ErrNoCapacity      = fault.New(fault.Unavailable, "gateway.no_capacity", "the model has no replica that takes the request now")
	ErrDraining        = fault.New(fault.Unavailable, "gateway.draining", "this server is shutting down")
	ErrUnsupported     = fault.New(fault.Invalid, "gateway.unsupported_parameter", "the engine does not take the request")
	ErrContextTooLong  = fault.New(fault.Invalid, "gateway.context_too_long", "the request is longer than the model's context")
	ErrBusy            = fault.New(fault.Limited, "gateway.rate_limited", "the engine takes no more requests at the moment")
)

// status maps a fault to HTTP in the OpenAI dialect.
func status(e *fault.Error) int {
	switch e.Code {
	case ErrMedia.Code:
		return http.StatusUnsupportedMediaType
	case ErrMethod.Code:
		return http.StatusMethodNotAllowed
	case ErrBodyTimeout.Code:
		return http.StatusRequestTimeout
	case ErrUpstreamTimeout.Code:
		return http.StatusGatewayTimeout
	}
	switch e.Kind {
	case fault.Invalid:
		return http.StatusBadRequest
	default:
		return web.Status(e)
	}
}

// openAIError is the inner object of an OpenAI error. All four keys of theirs are always there; request_id is ours.
type openAIError struct {
	Message   string  `json:"message"`
	Type      string  `json:"type"`
	Param     *string `json:"param"`
	Code      *string `json:"code"`
	RequestID string  `json:"request_id,omitempty"`
	Hint      string  `json:"hint,omitempty"`
}

// openAI gives an error its OpenAI form. Words of internal errors stay in the log.
func openAI(e *fault.Error, requestID string) openAIError {
	o := openAIError{Message: e.Text(), RequestID: requestID, Hint: e.Hint}
	_, code, _ := strings.Cut(e.Code, ".")
	switch e.Kind {
	case fault.Invalid, fault.Forbidden, fault.NotFound, fault.TooLarge, fault.Conflict:
		o.Type = "invalid_request_error"
	case fault.Unauthenticated:
		o.Type, code = "invalid_request_error", "invalid_api_key"
	case fault.Limited:
		o.Type, code = cmp.Or(unitOf(e), "requests"), "rate_limit_exceeded"
		if billing(e) {
			o.Type, code = "insufficient_quota", "insufficient_quota"
		}
	case fault.Unavailable:
		o.Type, code = "server_error", "overloaded"
	case fault.Upstream:
		o.Type = "server_error"
	case fault.Internal:
		o.Type, code = "server_error", "internal_error"
		o.Message, o.Hint = e.Message, "Send the request id to your operator: the log has the cause"
	}
	if errors.Is(e, ErrContextTooLong) {
		code = "context_length_exceeded"
	}
	o.Code = &code
	if len(e.Fields) > 0 && e.Kind != fault.Limited {
		o.Param = &e.Fields[0].Name
	}
	if e.Hint != "" && e.Kind != fault.Internal {
		o.Message += ". " + e.Hint
		o.Hint = ""
	}
	return o
}

func errorBody(e *fault.Error, requestID string) []byte {
	b, _ := json.Marshal(struct { // strings only: cannot fail
		Error openAIError `json:"error"`
	}{openAI(e, requestID)})
	return b
}

// retryHeaders tells clients whether and when a repeat can help. SDKs repeat 408, 409, 429 and 5xx by themselves unless told not to.
func retryHeaders(h http.Header, e *fault.Error, status int) {
	switch {
	case final(e):
		h.Set("X-Should-Retry", "false")
	case e.RetryAfter > 0:
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(e.RetryAfter.Seconds())))))
		h.Set("Retry-After-Ms", strconv.FormatInt(e.RetryAfter.Milliseconds(), 10))
	case status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout,
		e.Kind == fault.Unavailable: // without a time nothing is on its way: a stopped model does not start by asking again
		h.Set("X-Should-Retry", "false")
	}
}

// asFault turns any error of the path into one of this package's, with its own words.
func asFault(err error) *fault.Error {
	switch {
	case errors.Is(err, inference.ErrModelNotFound):
		return ErrModelNotFound.With("%s", fault.From(err).Text())
	case errors.Is(err, inference.ErrNotReady):
		e := fault.From(err)
		n := ErrNoCapacity.With("%s", e.Text()).After(e.RetryAfter)
		n.Hint = e.Hint
		return n
	case errors.Is(err, meter.ErrFull), errors.Is(err, meter.ErrClosed):
		return ErrJournalFull.Wrap(err)
	case errors.Is(err, auth.ErrUnauthenticated):
		return user.ErrMissingKey
	case errors.Is(err, h1.ErrTimeout):
		return ErrUpstreamTimeout.Wrap(err)
	case errors.Is(err, h1.ErrProtocol):
		return ErrUpstreamProtocol.Wrap(err)
	case errors.Is(err, h1.ErrBroken):
		return ErrUpstreamBroken.Wrap(err)
	case errors.Is(err, h1.ErrConnect):
		return ErrUpstream.With("the engine cannot be reached").Wrap(err)
	}
	return fault.From(err)
}

// refusal is an engine's answer that is no success: what it means to us.
type refusal struct {
	status int
	after  time.Duration
	code   string
	param  string
	words  string
}

// readRefusal takes the words out of an error body in OpenAI's form, or of one of its relatives.
func readRefusal(status int, wait string, body []byte) refusal {
	r := refusal{status: status}
	r.after = retryAfter(wait, time.Now())
	var outer struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
		Code    any             `json:"code"`
	}
	if json.Unmarshal(body, &outer) != nil {
		return r
	}
	var inner struct {
		Message string `json:"message"`
		Code    any    `json:"code"`
		Param   any    `json:"param"`
		Type    string `json:"type"`
	}
	var text string
	switch {
	case json.Unmarshal(outer.Error, &inner) == nil && inner.Message != "":
		r.words = inner.Message
	case json.Unmarshal(outer.Error, &text) == nil && text != "":
		r.words = text
	case outer.Message != "":
		r.words = outer.Message
	case json.Unmarshal(outer.Detail, &text) == nil:
		r.words = text
	}
	if inner.Code == nil {
		inner.Code = outer.Code
	}
	r.code, _ = inner.Code.(string)
	r.param, _ = inner.Param.(string)
	if r.code == "" && (inner.Type == "exceed_context_size_error" || inner.Type == "context_length_exceeded") {
		r.code = "context_length_exceeded"
	}
	r.words = scrub(r.words)
	return r
}

// fault is what the client is told. A refusal of our own credential or of a path is our trouble, not the client's.
func (r refusal) fault() *fault.Error {
	words := r.words
	say := func(e *fault.Error) *fault.Error {
		if words != "" {
			e = e.With("%s", words)
		}
		if r.param != "" {
			e = e.WithFields(fault.Field{Name: r.param, Code: "format", Message: words})
		}
		return e
	}
	switch {
	case r.code == "context_length_exceeded" || tooLong(words):
		return say(ErrContextTooLong)
	case r.status == 413:
		return say(ErrBodyTooLarge)
	case r.status == 429:
		after := r.after
		if after == 0 {
			after = time.Second
		}
		return say(ErrBusy).After(after)
	case r.status == 401 || r.status == 403:
		return ErrUpstream.With("the engine refused this server's credential")
	case r.status == 404:
		return ErrUpstream.With("the engine does not know the model it should serve")
	case r.status == 408 || r.status == 504:
		return say(ErrUpstreamTimeout)
	case r.status == 503 || r.status == 529:
		after := r.after
		if after == 0 {
			after = 2 * time.Second
		}
		return say(ErrNoCapacity).After(after)
	case r.status >= 500 || r.status < 400:
		return say(ErrUpstream)
	}
	return say(ErrUnsupported)
}

// secretShapes are things that an engine's words must not carry outside: URLs, keys, host names with ports, addresses.
var secretShapes = regexp.MustCompile(`(?i)\b(?:https?|unix|wss?)://\S+|\b(?:sk|pk|jt|key|ghp|xox[a-z])[-_][A-Za-z0-9_-]{8,}|\beyJ[A-Za-z0-9_-]{10,}\S*|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\b[a-z0-9.-]+\.(?:local|internal|svc|cluster)\b\S*|(?:/[A-Za-z0-9_.-]+){3,}`)

const wordsMost = 500

// scrub makes words of an engine fit for the outside.
func scrub(s string) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > wordsMost {
		s = strings.ToValidUTF8(s[:wordsMost], "") + "..."
	}
	return secretShapes.ReplaceAllString(s, "***")
}
