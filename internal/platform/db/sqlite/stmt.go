package sqlite

import (
	"context"
	"database/sql/driver"
	"strconv"
	"strings"
)

// The driver parses a statement's text each time it runs: 15 us for a row of usage, half of what booking it costs. So each connection keeps its statements prepared, by text. pgx does the same on its own.

// kept is how many statements a connection keeps. The program has some hundreds; those of one connection are fewer, and lists of ids of changing length must not push all others out.
const kept = 256

// connector makes connections that keep their statements.
type connector struct{ driver.Connector }

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := raw.(inner)
	if !ok {
		return raw, nil
	}
	return &conn{inner: inner, kept: map[string]*stmt{}}, nil
}

// inner is what a connection of the driver offers.
type inner interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn is a connection with its prepared statements. database/sql calls it from one goroutine at a time.
type conn struct {
	inner
	kept map[string]*stmt
	turn uint64
}

// runnable is what a prepared statement of the driver offers.
type runnable interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type stmt struct {
	runnable
	used  uint64 // turn of its last use
	busy  bool   // its rows are open
	brief bool   // writes one row: not worth a goroutine that could interrupt it
}

// Unwrap gives the driver's connection to its own functions.
func (c *conn) Unwrap() driver.Conn { return c.inner }

// Close implements driver.Conn.
func (c *conn) Close() error {
	for text, s := range c.kept {
		_ = s.Close() // the connection goes, and all with it
		delete(c.kept, text)
	}
	return c.inner.Close()
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.stmt(ctx, text)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.inner.ExecContext(ctx, text, args)
	}
	if s.brief {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ctx = context.WithoutCancel(ctx) // the writer's connection waits for nobody once its transaction has begun
	}
	return s.runnable.ExecContext(ctx, args)
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.stmt(ctx, text)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.inner.QueryContext(ctx, text, args)
	}
	r, err := s.runnable.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.busy = true
	return &rows{r, s}, nil
}

// rows give their statement back when they are closed.
type rows struct {
	driver.Rows
	s *stmt
}

// Close implements driver.Rows.
func (r *rows) Close() error {
	r.s.busy = false
	return r.Rows.Close()
}

// stmt returns the prepared statement of a text, nil for one that is not kept: schema changes, pragmas, scripts, and a text whose rows are still being read.
func (c *conn) stmt(ctx context.Context, text string) (*stmt, error) {
	c.turn++
	if s := c.kept[text]; s != nil {
		if s.busy {
			return nil, nil
		}
		s.used = c.turn
		return s, nil
	}
	if !keeps(text) {
		return nil, nil
	}
	plain := positional(text)
	raw, err := c.inner.PrepareContext(ctx, plain)
	if err != nil {
		return nil, err
	}
	p, ok := raw.(runnable)
	if !ok {
		return nil, raw.Close()
	}
	if len(c.kept) >= kept {
		c.drop()
	}
	s := &stmt{runnable: p, used: c.turn, brief: strings.HasPrefix(text, "INSERT") && !strings.Contains(text, "SELECT")}
	c.kept[text] = s
	return s, nil
}

// drop forgets the statement that was not used for the longest time.
func (c *conn) drop() {
	oldest, at := "", c.turn+1
	for text, s := range c.kept {
		if s.used < at && !s.busy {
			oldest, at = text, s.used
		}
	}
	if s := c.kept[oldest]; s != nil {
		_ = s.Close() // it ran well before; nothing depends on it
		delete(c.kept, oldest)
	}
}

// keeps reports whether a text is one statement of those that run often.
func keeps(text string) bool {
	text = strings.TrimLeft(text, " \t\r\n")
	switch text[:max(strings.IndexAny(text, " \t\r\n"), 0)] {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "WITH":
		return !strings.Contains(text, ";")
	}
	return false
}

// positional writes the parameters $1, $2, ... of a text as ?, if each stands once and in this order: the driver looks the names up one by one, in time that grows with the square of their number. Other texts
// stay as they are.
func positional(text string) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\'' || c == '"' || c == '`' || c == '[' || c == '?' || c == '@' || c == ':' || c == '-' && strings.HasPrefix(text[i:], "--") || c == '/' && strings.HasPrefix(text[i:], "/*"):
			if c != '\'' {
				return text // nothing that our statements have; not worth a parser
			}
			end := strings.IndexByte(text[i+1:], '\'')
			if end < 0 {
				return text
			}
			b.WriteString(text[i : i+end+2]) // a doubled quote begins the next string
			i += end + 2
		case c == '$':
			end := i + 1
			for end < len(text) && text[end] >= '0' && text[end] <= '9' {
				end++
			}
			if k, err := strconv.Atoi(text[i+1 : end]); err != nil || k != n+1 {
				return text
			}
			n++
			b.WriteByte('?')
			i = end
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}
