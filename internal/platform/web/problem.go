package web

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"maas/internal/platform/fault"
)

// Problem is the one error form of the management API (RFC 9457).
type Problem struct {
	Type       string        `json:"type" doc:"Address of the entry in the error reference"`
	Title      string        `json:"title" doc:"What the code means; the same words each time"`
	Status     int           `json:"status"`
	Code       string        `json:"code" doc:"Stable code <package>.<reason>"`
	Detail     string        `json:"detail,omitempty" doc:"What happened in this case"`
	Instance   string        `json:"instance,omitempty" doc:"Path of the request"`
	RequestID  string        `json:"request_id,omitempty"`
	Errors     []fault.Field `json:"errors,omitempty" doc:"Every input that was wrong"`
	Hint       string        `json:"hint,omitempty" doc:"The next step"`
	RetryAfter *int          `json:"retry_after_s,omitempty" doc:"When a repeat may succeed, in seconds"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Code + ": " + p.Title }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Errors of the edge itself.
var (
	ErrInvalidFields = fault.New(fault.Invalid, "web.invalid_fields", "some fields of the request are wrong")
	ErrBadRequest    = fault.New(fault.Invalid, "web.bad_request", "the request could not be read")
	ErrNotFound      = fault.New(fault.NotFound, "web.not_found", "there is nothing at this path")
	ErrMethod        = fault.New(fault.Invalid, "web.method_not_allowed", "this path does not take this method")
	ErrTooLarge      = fault.New(fault.TooLarge, "web.body_too_large", "the body is over the limit")
	ErrMediaType     = fault.New(fault.Invalid, "web.unsupported_media", "this content type is not taken here")
	ErrPrecondition  = fault.New(fault.Conflict, "web.precondition_failed", "the object was changed by someone else meanwhile").WithHint("Load it again, then repeat the change")
	ErrTimeout       = fault.New(fault.Invalid, "web.body_timeout", "the body did not arrive in time")
	ErrDraining      = fault.New(fault.Unavailable, "web.draining", "this process is shutting down")
)

// Status maps a fault to its HTTP status; the one place where it is done for the management API.
func Status(e *fault.Error) int {
	switch e.Code {
	case ErrMethod.Code:
		return http.StatusMethodNotAllowed
	case ErrMediaType.Code:
		return http.StatusUnsupportedMediaType
	case ErrPrecondition.Code:
		return http.StatusPreconditionFailed
	case ErrTimeout.Code:
		return http.StatusRequestTimeout
	}
	switch e.Kind {
	case fault.Invalid:
		if len(e.Fields) > 0 {
			return http.StatusUnprocessableEntity
		}
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Upstream:
		return http.StatusBadGateway
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Internal:
	}
	return http.StatusInternalServerError
}

// problem builds the answer for err. Words of internal errors stay in the log.
func problem(r *http.Request, err error) *Problem {
	e := fault.From(err)
	p := &Problem{Type: "/docs/errors#" + e.Code, Title: e.Message, Status: Status(e), Code: e.Code, Detail: e.Detail, Errors: e.Fields, Hint: e.Hint}
	if e.Kind == fault.Internal {
		p.Detail, p.Hint = "", "Send the request id to your operator: the log has the cause"
	}
	if e.RetryAfter > 0 {
		s := max(1, int(math.Ceil(e.RetryAfter.Seconds())))
		p.RetryAfter = &s
	}
	if r != nil {
		p.Instance, p.RequestID = r.URL.Path, RequestID(r.Context())
	}
	return p
}

// WriteProblem answers a request with err in the form of the management API and notes internal errors in the request's log line.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	noteError(r.Context(), err)
	p := problem(r, err)
	headersOf(w.Header(), p)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone: nothing left to do
}

func headersOf(h http.Header, p *Problem) {
	if p.RetryAfter != nil {
		h.Set("Retry-After", itoa(*p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="maas"`)
	}
}

// humaError turns huma's own refusals (validation, unreadable bodies) into our form. The offending value is dropped: it may be a password.
func humaError(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
	e := ErrBadRequest.With("%s", msg)
	switch status {
	case http.StatusUnprocessableEntity:
		e = ErrInvalidFields
	case http.StatusRequestEntityTooLarge:
		e = ErrTooLarge.With("%s", msg)
	case http.StatusUnsupportedMediaType:
		e = ErrMediaType.With("%s", msg)
	case http.StatusRequestTimeout:
		e = ErrTimeout
	case http.StatusInternalServerError:
		e = fault.ErrInternal.Wrap(errors.Join(errs...))
	}
	if status < http.StatusInternalServerError {
		for _, err := range errs {
			e = e.WithFields(fieldOf(err))
		}
	}
	if len(e.Fields) > 0 && e.Code == ErrBadRequest.Code {
		e = ErrInvalidFields.WithFields(e.Fields...)
	}
	var r *http.Request
	if ctx != nil {
		r, _ = humago.Unwrap(ctx)
		noteError(ctx.Context(), e)
	}
	return problem(r, e)
}

func fieldOf(err error) fault.Field {
	var d huma.ErrorDetailer
	if errors.As(err, &d) {
		detail := d.ErrorDetail()
		return fault.Field{Name: detail.Location, Code: fieldCode(detail.Message), Message: detail.Message}
	}
	return fault.Field{Name: "body", Code: "format", Message: firstLine(err.Error())}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// fieldCode names the rule that a validation message of huma speaks of.
func fieldCode(msg string) string {
	for _, c := range [...]struct{ part, code string }{
		{"required", "required"},
		{"unexpected property", "unknown"},
		{"unknown query", "unknown"},
		{"one of", "not_in_list"},
		{"match pattern", "pattern"},
		{"length >=", "too_short"},
		{"at least", "too_short"},
		{"length <=", "too_long"},
		{"at most", "too_long"},
		{"number >", "out_of_range"},
		{"number <", "out_of_range"},
		{"multiple of", "out_of_range"},
		{"unique", "duplicate"},
		{"expected string to be", "format"},
		{"expected", "type"},
		{"invalid", "type"},
	} {
		if strings.Contains(msg, c.part) {
			return c.code
		}
	}
	return "format"
}

// asStatusError is what handlers registered with Get, Post, ... return to huma.
func asStatusError(ctx context.Context, err error) error {
	noteError(ctx, err)
	c := callOf(ctx)
	p := problem(c.r, err)
	headersOf(c.w.Header(), p)
	return p
}
