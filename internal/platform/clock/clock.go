// Package clock is the program's source of time: a function value, so that tests pass their own. Times are UTC and whole microseconds, what both databases store exactly.
package clock

import "time"

// Clock returns the present time. Services take one in their Deps.
type Clock func() time.Time

// Now is the clock of production: UTC, microseconds, without the monotonic reading (so that a value equals itself after a round trip through the database).
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond).Round(0) }

// Fixed returns a clock that stands at t.
func Fixed(t time.Time) Clock { return func() time.Time { return t.UTC().Truncate(time.Microsecond) } }
