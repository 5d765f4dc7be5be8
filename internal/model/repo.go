package model

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"maas/internal/platform/fault"
)

// Limits of a version.
const (
	maxName    = 96
	maxPath    = 1024
	maxSegment = 255
	maxFiles   = 10_000
	maxText    = 4096 // description, message
)

// Model is a repository: a name under which versions are kept. Its JSON is also the answer.
type Model struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Visibility  string    `json:"visibility"` // tenant
	Latest      *Version  `json:"latest"`     // the newest one; null without versions
	Versions    int       `json:"versions_count"`
	SizeBytes   int64     `json:"size_bytes"` // of all distinct files
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Rev         int64     `json:"rev"`

	tenant string
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// checkName refuses what stock hub clients refuse too: other letters, `--`, `..`, a dash or dot at either end, `.git`.
func checkName(name string) error {
	bad := func(why string) error {
		return ErrBadName.With("%s", why).WithFields(fault.Field{Name: "body.name", Code: "pattern", Message: why, Limit: maxName})
	}
	switch {
	case name == "" || len(name) > maxName:
		return bad("a model name has 1 to 96 characters")
	case strings.ContainsFunc(name, func(r rune) bool { return !nameRune(r) }):
		return bad("a model name holds letters, digits, dots, dashes and underscores only")
	case strings.Contains(name, "--") || strings.Contains(name, ".."):
		return bad("a model name holds no -- and no ..")
	case strings.ContainsAny(name[:1]+name[len(name)-1:], "-."):
		return bad("a model name does not begin or end with a dash or a dot")
	case strings.HasSuffix(strings.ToLower(name), ".git"):
		return bad("a model name does not end in .git")
	case strings.HasPrefix(name, "rep_") || strings.HasPrefix(name, "ver_"):
		return bad("a model name does not begin like an identifier")
	}
	return nil
}

// CheckPath refuses paths that could leave the folder or cannot be written on every system.
func CheckPath(p string) error {
	bad := func(why string) error { return ErrBadPath.With("%.200q %s", p, why) }
	if p == "" || len(p) > maxPath || !utf8.ValidString(p) {
		return bad("is empty, longer than 1,024 bytes or not UTF-8")
	}
	if strings.ContainsFunc(p, func(r rune) bool { return unicode.IsControl(r) || strings.ContainsRune(`\:*?"<>|`, r) }) {
		return bad("holds a control character or one of \\ : * ? \" < > |")
	}
	if path.IsAbs(p) || path.Clean(p) != p {
		return bad("is not a plain relative path")
	}
	for s := range strings.SplitSeq(p, "/") {
		if s == "." || s == ".." || s == ".git" || len(s) > maxSegment || strings.HasSuffix(s, " ") || strings.HasSuffix(s, ".") {
			return bad("holds a segment that is not allowed")
		}
	}
	return nil
}

// checkFiles sorts the files and refuses bad paths, paths that appear twice, and a file that is also a folder.
func checkFiles(files []File) error {
	if len(files) == 0 {
		return ErrNoFiles
	}
	if len(files) > maxFiles {
		return ErrTooManyFiles.With("%d files are over the limit of %d", len(files), maxFiles)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	seen := map[string]bool{}
	for _, f := range files {
		if err := CheckPath(f.Path); err != nil {
			return err
		}
		if seen[f.Path] {
			return ErrBadPath.With("%.200q is given twice", f.Path)
		}
		seen[f.Path] = true
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return ErrBadPath.With("%.200q is both a file and a folder", dir)
			}
		}
	}
	return nil
}

// manifest is the integrity anchor of a version: SHA-256 over `path NUL sha256 NUL size LF`, sorted by path bytes. files are sorted.
func manifest(files []File) string {
	h := sha256.New()
	for _, f := range files {
		_, _ = fmt.Fprintf(h, "%s\x00%s\x00%d\n", f.Path, f.SHA256, f.SizeBytes) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

// distinctSize is the size of the distinct blobs.
func distinctSize(files []File) (n int64) {
	seen := map[string]bool{}
	for _, f := range files {
		if !seen[f.SHA256] {
			n += f.SizeBytes
		}
		seen[f.SHA256] = true
	}
	return n
}

// blobKey is where the bytes of a blob are.
func blobKey(tenant, sha string) string { return "blob/" + tenant + "/" + sha[:2] + "/" + sha }

// hashOf is the lower-case hex SHA-256 of what r gives.
func hashOf(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
