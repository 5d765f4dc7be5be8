// Package backends is the one list of drivers: importing it makes their URL schemes known.
package backends

import (
	_ "maas/internal/platform/cache/memory" // memory:
	_ "maas/internal/platform/cache/redis"  // redis://, rediss://
	_ "maas/internal/platform/db/postgres"  // postgres://
	_ "maas/internal/platform/db/sqlite"    // sqlite:
	_ "maas/internal/platform/object/file"  // file:
)
