package part

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Node returns a folder in which Node.js finds the npm package (`name@version`): <Dir>/npm. It installs nothing: a missing package skips or fails the test with the line that brings it.
func Node(t testing.TB, pkg string) string {
	t.Helper()
	dir := filepath.Join(Dir(), "npm")
	name := pkg[:strings.LastIndexByte(pkg, '@')]
	if _, err := exec.LookPath("node"); err != nil {
		Missing(t, "Node.js", "apt-get install -y nodejs npm")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", name, "package.json")); err != nil {
		Missing(t, pkg, "npm install --prefix "+dir+" "+pkg)
	}
	return dir
}
