//go:build !linux

package front

import "errors"

// watch exists on Linux only; elsewhere net/http serves everything.
type watch struct{}

func newWatch(*Server) (*watch, error) { return nil, errors.ErrUnsupported }

func (*watch) run()           {}
func (*watch) add(*conn) bool { return false }
func (*watch) remove(*conn)   {}
func (*watch) close()         {}
func isTemporary(error) bool  { return false }
