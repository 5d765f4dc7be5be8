package chat

import "maas/internal/llm/token"

// Template is a compiled chat template. It never changes and may be rendered by any number of goroutines.
type Template struct {
	source string
}

// Compile parses a chat template. Errors: ErrSyntax with line and column, ErrLimit.
func Compile(source string, l Limits) (*Template, error) { return &Template{source: source}, nil }

// Render makes the prompt of a conversation: parts for token.Encode, the template's own text trusted, all else untrusted. Errors: ErrRaised with the template's words, ErrFailed, ErrMessage, ErrLimit.
func (t *Template) Render(in Input) ([]token.Part, error) { return nil, ErrFailed }
