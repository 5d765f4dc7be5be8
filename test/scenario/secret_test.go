package scenario

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest"
	"maas/internal/platform/db"
)

// planted is what must not be found in clear: a value and where it was given to the program or came from it.
type planted map[string]string

func (p planted) add(t *testing.T, what, value string) {
	t.Helper()
	require.Greater(t, len(value), 5, "%s: %q is too short to look for", what, value)
	p[what] = value
}

// in reports which planted values stand in b: as they are, in base64, or in hexadecimal digits.
func (p planted) in(b []byte) (found []string) {
	lower := bytes.ToLower(b)
	for what, v := range p {
		forms := [][]byte{[]byte(strings.ToLower(v)), []byte(hex.EncodeToString([]byte(v)))}
		for cut := range 3 { // base64 of v at any place of a longer text: three alignments, without the characters that share bits with neighbours
			e := base64.RawStdEncoding.EncodeToString([]byte(v[cut:]))
			forms = append(forms, []byte(strings.ToLower(e[:len(e)/4*4])))
		}
		for _, f := range forms {
			if bytes.Contains(lower, f) {
				found = append(found, what)
				break
			}
		}
	}
	return found
}

// No password, key, token or prompt stands in clear in the database, in a file of the data folder or in a log (written at its lowest level).
func TestSecretsAreNowhereInClear(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		secrets := planted{}
		owner, nobody := s.As("owner"), s.With("")
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/models") {
				_, _ = fmt.Fprint(w, `{"object":"list","data":[{"id":"far","object":"model","created":1,"owned_by":"x"}]}`)
				return
			}
			_, _ = fmt.Fprint(w, `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"far","choices":[{"index":0,"message":{"role":"assistant","content":"planted-answer-of-the-upstream"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`)
		}))
		t.Cleanup(upstream.Close)

		secrets.add(t, "the owner's password", s.Owner.Password)
		secrets.add(t, "a password that was mistyped", "planted-mistyped-password")
		nobody.Post("/api/v1/auth/login", map[string]any{"email": s.Owner.Email, "password": "planted-mistyped-password"}).Want(http.StatusUnauthorized)
		login := nobody.Post("/api/v1/auth/login", map[string]any{"email": s.Owner.Email, "password": s.Owner.Password, "client": "cli"}).Want(http.StatusOK)
		secrets.add(t, "an access token", login.Str("access_token"))
		secrets.add(t, "a refresh token", login.Str("refresh_token"))
		again := nobody.Post("/api/v1/auth/refresh", map[string]any{"refresh_token": login.Str("refresh_token")}).Want(http.StatusOK)
		secrets.add(t, "a rotated refresh token", again.Str("refresh_token"))
		secrets.add(t, "a password in a wrong field", "planted-password-in-a-wrong-field")
		nobody.Post("/api/v1/auth/login", map[string]any{"email": s.Owner.Email, "pasword": "planted-password-in-a-wrong-field"}).Want(http.StatusUnprocessableEntity)

		secrets.add(t, "a provider's key", "planted-provider-key-0123456789")
		provider := owner.Post("/api/v1/inference/providers", map[string]any{"name": "far", "kind": "openai", "base_url": upstream.URL + "/v1", "api_key": "planted-provider-key-0123456789"}).Want(http.StatusCreated)
		require.NotContains(t, string(provider.Body), "planted-provider-key")
		owner.Post("/api/v1/inference/providers/"+provider.Str("id")+"/test", nil).Want(http.StatusOK)
		owner.Post("/api/v1/inference/deployments", map[string]any{"name": "far", "provider": provider.Str("id"), "upstream_model": "far", "engine": "openai"}).Want(http.StatusCreated)
		await(t, owner, "/api/v1/inference/deployments/far", "status", "ready")

		key := owner.Post("/api/v1/keys", map[string]any{"name": "planted"}).Want(http.StatusCreated)
		secrets.add(t, "an API key", key.Str("secret"))
		rotated := owner.Post("/api/v1/keys/"+key.Str("id")+"/rotate", map[string]any{"overlap_s": 60}).Want(http.StatusOK, http.StatusCreated)
		secrets.add(t, "a rotated API key", rotated.Str("secret"))
		secrets.add(t, "a prompt", "planted prompt: my diagnosis is nobody's business")
		secrets.add(t, "an answer", "planted-answer-of-the-upstream")
		app := s.With(rotated.Str("secret"))
		app.Post("/v1/chat/completions", map[string]any{"model": "far", "messages": []map[string]string{{"role": "user", "content": "planted prompt: my diagnosis is nobody's business"}}}).Want(http.StatusOK)
		app.Post("/v1/chat/completions", map[string]any{"model": "nothing", "messages": []map[string]string{{"role": "user", "content": "planted prompt: my diagnosis is nobody's business"}}}).Want(http.StatusNotFound)
		secrets.add(t, "a key that is not one of ours", "sk-planted-foreign-key-abcdefghijklmnop")
		s.With("sk-planted-foreign-key-abcdefghijklmnop").Get("/v1/models").Want(http.StatusUnauthorized)
		second(t, s, secrets)

		files := 0
		for _, data := range s.Data {
			require.NoError(t, filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
				if err != nil || !e.Type().IsRegular() {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				files++
				require.Empty(t, secrets.in(b), path)
				return nil
			}))
		}
		require.Greater(t, files, 3, "the data folders were looked through")
		rows := dump(t, s.DB())
		require.Contains(t, rows, s.Owner.Email, "the database was looked through")
		require.Empty(t, secrets.in([]byte(rows)), "the database")
	})
}

// second plants what the second factor and the ways into a team give out.
func second(t *testing.T, s *maastest.Set, secrets planted) {
	t.Helper()
	dev := s.As("developer")
	totp := dev.Post("/api/v1/auth/mfa/totp", nil).Want(http.StatusOK, http.StatusCreated)
	secrets.add(t, "the secret of one-time codes", totp.Str("secret"))
	invitation := s.As("owner").Post("/api/v1/invitations", map[string]any{"email": "new@example.com", "roles": []string{"viewer"}}).Want(http.StatusCreated)
	link := invitation.Str("accept_url")
	token := link[strings.LastIndexAny(link, "/=")+1:]
	secrets.add(t, "an invitation", token)
	s.With("").Get("/api/v1/invitations/by-token/" + token).Want(http.StatusOK)
	dev.Post("/api/v1/invitations/by-token/"+token+"/accept", nil) // not theirs: refused, with the token in the path
}

// dump reads every row of the database as text.
func dump(t *testing.T, d *db.DB) string {
	t.Helper()
	var out strings.Builder
	require.NoError(t, d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
		names, err := db.List(ctx, q, db.Scalar[string], map[db.Dialect]string{
			db.SQLite:   `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name`,
			db.Postgres: `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name`,
		}[d.Dialect()])
		if err != nil {
			return err
		}
		for _, name := range names {
			rows, err := q.Query(ctx, `SELECT * FROM `+name)
			if err != nil {
				return err
			}
			columns, err := rows.Columns()
			if err != nil {
				return err
			}
			for rows.Next() {
				values := make([]any, len(columns))
				for i := range values {
					values[i] = new(any)
				}
				if err := rows.Scan(values...); err != nil {
					return err
				}
				for _, v := range values {
					switch x := (*v.(*any)).(type) { //nolint:forcetypeassert // made above
					case []byte:
						out.Write(x)
					default:
						b, err := json.Marshal(x)
						require.NoError(t, err)
						out.Write(b)
					}
					out.WriteByte('\n')
				}
			}
			if err := rows.Err(); err != nil {
				return err
			}
			_ = rows.Close()
		}
		return nil
	}))
	return out.String()
}
