package gateway

import (
	"encoding/json"
	"net/http"
	"strings"

	"maas/internal/inference/dialect"
	"maas/internal/platform/fault"
)

// anthropicStatus maps a fault to HTTP in Anthropic's dialect.
func anthropicStatus(e *fault.Error) int {
	switch {
	case e.Kind == fault.Unavailable:
		return 529
	case e.Kind == fault.Limited && billing(e):
		return http.StatusPaymentRequired
	}
	return status(e)
}

// status is what the client gets, in its dialect.
func (c *call) status(e *fault.Error) int {
	if c.op.form == dialect.Messages || c.op.form == dialect.Count {
		return anthropicStatus(e)
	}
	return status(e)
}

// billing reports whether a limit is one of money or quota, that waiting does not lift.
func billing(e *fault.Error) bool {
	return strings.HasSuffix(e.Code, "budget_exceeded") || strings.HasSuffix(e.Code, "balance_exhausted")
}

// anthropicType is the word of the error for its status.
func anthropicType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return "timeout_error"
	case 529:
		return "overloaded_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

// anthropicError is the body of an error.
func anthropicError(e *fault.Error, requestID string) []byte {
	words := openAI(e, requestID) // the same words, the same care for what stays inside
	if e.Kind == fault.Internal && words.Hint != "" {
		words.Message += ". " + words.Hint
	}
	type inner struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	b, _ := json.Marshal(struct { // strings only: cannot fail
		Type      string  `json:"type"`
		Error     inner   `json:"error"`
		RequestID *string `json:"request_id"`
	}{"error", inner{anthropicType(anthropicStatus(e)), words.Message}, &requestID})
	return b
}

// errorEvent is the event that ends a stream which cannot go on, in the client's dialect.
func errorEvent(c *call, e *fault.Error) []byte {
	switch c.op.form {
	case dialect.Messages:
		return append(append([]byte("event: error\ndata: "), anthropicError(e, c.row.RequestID)...), "\n\n"...)
	case dialect.Responses:
		o := openAI(e, c.row.RequestID)
		b, _ := json.Marshal(struct { // strings only: cannot fail
			Type     string  `json:"type"`
			Code     *string `json:"code"`
			Message  string  `json:"message"`
			Param    *string `json:"param"`
			Sequence int64   `json:"sequence_number"`
		}{"error", o.Code, o.Message, o.Param, c.cut.events + 1})
		return append(append([]byte("event: error\ndata: "), b...), "\n\n"...)
	default:
	}
	return append(append([]byte("data: "), errorBody(e, c.row.RequestID)...), "\n\n"...)
}
