// Package web holds the console as it was built: the files of dist, or only the committed placeholder page when the console was not built. Serving them is the business of internal/console.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Dist returns the files of the console with their names as the browser asks for them (console.html, assets/…). Without a build it holds index.html alone, the placeholder.
func Dist() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // "dist" is a constant and embedded above
	}
	return sub
}
