package cli

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"maas/internal/platform/fault"
)

// Errors of importing.
var (
	ErrNothingToImport = fault.New(fault.Invalid, "cli.nothing_to_import", "there is no model at this path").WithHint("Give a .gguf file, or a folder with config.json and *.safetensors")
	ErrRejected        = fault.New(fault.Invalid, "cli.model_rejected", "the model was refused")
	ErrWaited          = fault.New(fault.Unavailable, "cli.wait_timeout", "the wait is over, but the work goes on")
)

type reasonView struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

type versionView struct {
	ID            string      `json:"id"`
	Name          string      `json:"name"`
	Number        int         `json:"number"`
	Status        string      `json:"status"`
	Format        string      `json:"format"`
	Architecture  string      `json:"architecture"`
	Parameters    int64       `json:"parameters"`
	ContextLength int         `json:"context_length"`
	Quantization  string      `json:"quantization"`
	SizeBytes     int64       `json:"size_bytes"`
	Manifest      string      `json:"manifest_sha256"`
	Reason        *reasonView `json:"reason"`
	CreatedAt     time.Time   `json:"created_at"`
}

type modelView struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	Description string       `json:"description"`
	Latest      *versionView `json:"latest"`
	SizeBytes   int64        `json:"size_bytes"`
	CreatedAt   time.Time    `json:"created_at"`
}

type reportView struct {
	Status string `json:"status"`
	Checks []struct {
		ID      string `json:"id"`
		Result  string `json:"result"`
		Code    string `json:"code"`
		Message string `json:"message"`
		Path    string `json:"path"`
	} `json:"checks"`
}

func (a *app) modelCmd() *cobra.Command {
	c := &cobra.Command{Use: "model", Short: "The model registry"}
	c.AddCommand(a.modelImportCmd(), a.modelDemoCmd(),
		&cobra.Command{Use: "list", Short: "List models", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			models, err := all[modelView](ctx, cl, "/models")
			if err != nil {
				return err
			}
			return a.print(models, func(w io.Writer) {
				row(w, "NAME", "VERSION", "STATUS", "ARCHITECTURE", "PARAMETERS", "QUANTIZATION", "SIZE")
				for _, m := range models {
					if m.Latest == nil {
						row(w, m.Name, "-", "empty", "-", "-", "-", "-")
						continue
					}
					v := m.Latest
					row(w, m.Name, "r"+strconv.Itoa(v.Number), v.Status, orDash(v.Architecture), count(v.Parameters), orDash(v.Quantization), sizeText(v.SizeBytes))
				}
			})
		})},
		&cobra.Command{Use: "show NAME", Short: "Show a model and the report of its checks", Args: exactly(1, "the name of the model"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			var m modelView
			if err := cl.do(ctx, http.MethodGet, "/models/"+url.PathEscape(args[0]), nil, &m); err != nil {
				return err
			}
			var r reportView
			if m.Latest != nil {
				if err := cl.do(ctx, http.MethodGet, fmt.Sprintf("/models/%s/versions/%d/report", m.ID, m.Latest.Number), nil, &r); err != nil {
					return err
				}
			}
			return a.print(map[string]any{"model": m, "report": r}, func(w io.Writer) { showModel(w, m, r) })
		})},
		&cobra.Command{Use: "delete NAME", Short: "Delete a model that no deployment uses", Args: exactly(1, "the name of the model"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/models/"+url.PathEscape(args[0]), nil, nil)
		})})
	return c
}

func showModel(w io.Writer, m modelView, r reportView) {
	row(w, "name", m.Name)
	row(w, "id", m.ID)
	if m.Latest != nil {
		v := m.Latest
		row(w, "version", fmt.Sprintf("r%d (%s)", v.Number, v.Status))
		row(w, "format", v.Format)
		row(w, "architecture", v.Architecture)
		row(w, "parameters", count(v.Parameters))
		row(w, "context", v.ContextLength)
		row(w, "quantization", v.Quantization)
		row(w, "size", sizeText(v.SizeBytes))
		row(w, "manifest", "sha256:"+v.Manifest)
	}
	for _, c := range r.Checks {
		row(w, "check "+c.ID, strings.TrimSpace(c.Result+"  "+c.Message))
	}
}

func count(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f B", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.0f M", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.0f k", float64(n)/1e3)
	}
	return strconv.FormatInt(n, 10)
}

func (a *app) modelDemoCmd() *cobra.Command {
	return &cobra.Command{Use: "demo", Short: "Add the built-in demo model: a small generated toy network, not a language model", Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			var m modelView
			if err := cl.do(ctx, http.MethodPost, "/models/demo", nil, &m); err != nil {
				return err
			}
			return a.print(m, func(w io.Writer) {
				fmt.Fprintf(w, "Added %s. Next: maas deploy create %s --name demo --wait\n", m.Name, m.Name)
			})
		})}
}

func (a *app) modelImportCmd() *cobra.Command {
	var name, description, message string
	c := &cobra.Command{Use: "import PATH", Short: "Import a GGUF file or a Hugging Face folder with safetensors", Args: exactly(1, "the path of a .gguf file or of a model folder"),
		Example: "  maas model import ./qwen3-0.6b-q8_0.gguf --name qwen-small\n  maas model import ./Llama-3.2-1B-Instruct --name my-llama"}
	c.Flags().StringVar(&name, "name", "", "name in the registry (default: the file's name)")
	c.Flags().StringVar(&description, "description", "", "what the model is for")
	c.Flags().StringVar(&message, "message", "", "what is new in this version")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		files, err := importFiles(args[0])
		if err != nil {
			return err
		}
		if name == "" {
			name = defaultName(args[0])
		}
		m, err := a.ensureModel(ctx, cl, name, description)
		if err != nil {
			return err
		}
		v, err := a.importVersion(ctx, cl, m, files, message)
		if err != nil {
			return err
		}
		return a.print(v, func(w io.Writer) {
			fmt.Fprintf(w, "Imported %s r%d: %s %s, %s parameters, %s, checked (%s).\nNext: maas deploy create %s --name %s --wait\n", v.Name, v.Number, v.Format, v.Architecture, count(v.Parameters), sizeText(v.SizeBytes), v.Status, v.Name, v.Name)
		})
	})
	return c
}

// localFile is one file to upload.
type localFile struct {
	disk, path string // on disk; inside the version, slash-separated
	size       int64
}

// importFiles lists what belongs to a model: the file itself with the other parts of a split set, or the folder without hidden files.
func importFiles(path string) ([]localFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, ErrNothingToImport.With("there is no %s", path)
	}
	if !info.IsDir() {
		return []localFile{{path, filepath.Base(path), info.Size()}}, nil
	}
	var files []localFile
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p != path && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		info, err := os.Stat(p) // follows the links of a Hugging Face cache folder
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(path, p)
		files = append(files, localFile{p, filepath.ToSlash(rel), info.Size()})
		return err
	})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(files, func(f localFile) bool {
		return strings.HasSuffix(f.path, ".gguf") || strings.HasSuffix(f.path, ".safetensors")
	}) {
		return nil, ErrNothingToImport.With("%s holds no .gguf and no .safetensors file", path)
	}
	return files, nil
}

func defaultName(path string) string {
	base := filepath.Base(filepath.Clean(path))
	base = strings.TrimSuffix(base, ".gguf")
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, base), "-.")
}

// ensureModel finds the model by name or creates it: a second import under one name makes its next version.
func (a *app) ensureModel(ctx context.Context, cl *client, name, description string) (modelView, error) {
	var m modelView
	err := cl.do(ctx, http.MethodGet, "/models/"+url.PathEscape(name), nil, &m)
	if err == nil || fault.KindOf(err) != fault.NotFound {
		return m, err
	}
	return m, cl.do(ctx, http.MethodPost, "/models", map[string]any{"name": name, "description": description}, &m)
}

func (a *app) importVersion(ctx context.Context, cl *client, m modelView, files []localFile, message string) (versionView, error) {
	var v versionView
	type entry struct {
		Path     string `json:"path"`
		UploadID string `json:"upload_id"`
	}
	entries := make([]entry, 0, len(files))
	for i, f := range files {
		up := upload{a: a, cl: cl, file: f, label: fmt.Sprintf("[%d/%d] %s", i+1, len(files), f.path), meta: map[string]string{"purpose": "model", "model": m.ID, "path": f.path}}
		uploadID, err := up.run(ctx)
		if err != nil {
			return v, err
		}
		entries = append(entries, entry{f.path, uploadID})
	}
	if err := cl.do(ctx, http.MethodPost, "/models/"+m.ID+"/versions", map[string]any{"message": message, "files": entries}, &v); err != nil {
		return v, err
	}
	return a.awaitVersion(ctx, cl, m, v)
}

// awaitVersion polls until the checks of a version have ended and explains a refusal.
func (a *app) awaitVersion(ctx context.Context, cl *client, m modelView, v versionView) (versionView, error) {
	last := ""
	for {
		if v.Status != last {
			a.say("%s r%d: %s", m.Name, v.Number, v.Status)
			last = v.Status
		}
		switch v.Status {
		case "ready", "warned":
			return v, nil
		case "rejected", "failed":
			e := ErrRejected.With("%s r%d is %s", m.Name, v.Number, v.Status)
			if v.Reason != nil {
				e = ErrRejected.With("%s (%s)", v.Reason.Message, v.Reason.Code).WithHint("%s", first(v.Reason.Hint, "maas model show "+m.Name+" lists every check"))
			}
			return v, e
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := cl.poll(ctx, fmt.Sprintf("/models/%s/versions/%d", m.ID, v.Number), &v); err != nil {
			return v, err
		}
	}
}
