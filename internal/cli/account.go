package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (a *app) loginCmd() *cobra.Command {
	var email, code string
	var stdin bool
	c := &cobra.Command{Use: "login", Short: "Sign in to a server and keep the session", Args: cobra.NoArgs,
		Example: "  echo $PASSWORD | maas login --url http://127.0.0.1:8080 --email ada@example.com --password-stdin"}
	c.Flags().StringVar(&email, "email", "", "e-mail address of the account")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	c.Flags().StringVar(&code, "code", "", "code of the authenticator app, or a recovery code (default: asked for when needed)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.url == "" {
			a.url = "http://127.0.0.1:8080"
		}
		if email == "" {
			return errUsage{errors.New("--email is needed")}
		}
		password, err := a.password(stdin)
		if err != nil {
			return err
		}
		anon := &client{strings.TrimRight(a.url, "/"), "", newHTTP()}
		s, err := a.signIn(cmd.Context(), anon, email, password, code)
		if err != nil {
			return err
		}
		cred := credential{URL: anon.base, Email: email}
		cred.take(s)
		if err := cred.save(); err != nil {
			return err
		}
		return a.print(map[string]string{"url": cred.URL, "email": email}, func(w io.Writer) { fmt.Fprintf(w, "Signed in at %s as %s.\n", cred.URL, email) })
	}
	return c
}

// password reads one line from standard input, or asks on the terminal without echo.
func (a *app) password(stdin bool) (string, error) {
	if !stdin {
		if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			fmt.Fprint(a.err, "Password: ")
			b, err := term.ReadPassword(int(f.Fd()))
			a.say("")
			return string(b), err
		}
		return "", errUsage{errors.New("there is no terminal to ask for the password: use --password-stdin")}
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (a *app) logoutCmd() *cobra.Command {
	return &cobra.Command{Use: "logout", Short: "End the session that `maas login` began", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		cred, err := loadCredential()
		if err != nil {
			return err
		}
		c := &client{cred.URL, cred.AccessToken, newHTTP()}
		err = c.do(cmd.Context(), http.MethodPost, "/auth/logout", map[string]any{"refresh_token": cred.RefreshToken}, nil)
		file, ferr := credentialFile()
		if ferr == nil {
			ferr = os.Remove(file) // the session is forgotten here even when the server is away
		}
		return errors.Join(err, ferr)
	}}
}

type userView struct {
	ID          string    `json:"id"`
	Email       string    `json:"email"`
	Role        string    `json:"role"`
	Status      string    `json:"status"`
	LastLoginAt time.Time `json:"last_login_at,omitzero"`
	CreatedAt   time.Time `json:"created_at"`
}

func (a *app) userCmd() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "People of the team"}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List people", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			users, err := all[userView](ctx, cl, "/users")
			if err != nil {
				return err
			}
			return a.print(users, func(w io.Writer) {
				row(w, "ID", "E-MAIL", "ROLE", "STATUS", "LAST LOGIN")
				for _, u := range users {
					row(w, u.ID, u.Email, u.Role, u.Status, ago(u.LastLoginAt))
				}
			})
		})},
		&cobra.Command{Use: "me", Short: "Show who you are", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			var u userView
			if err := cl.do(ctx, http.MethodGet, "/users/me", nil, &u); err != nil {
				return err
			}
			return a.print(u, func(w io.Writer) { row(w, u.ID, u.Email, u.Role, u.Status) })
		})},
		a.userCreateCmd(),
		a.userVerbCmd("approve", "Let a person who registered sign in", "approved"),
		a.userVerbCmd("reject", "Decline a registration; what the person entered is deleted", "rejected"),
		a.userVerbCmd("reset-mfa", "Take the second factors of a person away who lost them", "second factors removed"),
	)
	return c
}

func (a *app) userCreateCmd() *cobra.Command {
	var role string
	var stdin bool
	c := &cobra.Command{Use: "create EMAIL", Short: "Add a person", Args: exactly(1, "the e-mail address")}
	c.Flags().StringVar(&role, "role", "developer", "owner, admin, developer or viewer")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the first password from standard input")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		password, err := a.password(stdin)
		if err != nil {
			return err
		}
		var u userView
		if err := cl.do(ctx, http.MethodPost, "/users", map[string]any{"email": args[0], "role": role, "password": password}, &u); err != nil {
			return err
		}
		return a.print(u, func(w io.Writer) { row(w, u.ID, u.Email, u.Role) })
	})
	return c
}

type keyView struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Secret     string    `json:"secret,omitempty"`
	Prefix     string    `json:"prefix"`
	Last4      string    `json:"last4"`
	State      string    `json:"state"`
	Models     []string  `json:"models"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	CreatedAt  time.Time `json:"created_at"`
}

func (a *app) keyCmd() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "API keys"}
	c.AddCommand(a.keyCreateCmd(), a.keyRotateCmd(),
		&cobra.Command{Use: "list", Short: "List keys", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			keys, err := all[keyView](ctx, cl, "/keys")
			if err != nil {
				return err
			}
			return a.print(keys, func(w io.Writer) {
				row(w, "ID", "NAME", "KEY", "STATE", "MODELS", "LAST USED")
				for _, k := range keys {
					row(w, k.ID, k.Name, k.Prefix+"…"+k.Last4, k.State, orDash(strings.Join(k.Models, ",")), ago(k.LastUsedAt))
				}
			})
		})},
		&cobra.Command{Use: "revoke ID", Short: "Revoke a key: requests with it are refused within a second", Args: exactly(1, "the id of the key"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			var k keyView
			if err := cl.do(ctx, http.MethodPost, "/keys/"+args[0]+"/revoke", nil, &k); err != nil {
				return err
			}
			return a.print(k, func(w io.Writer) { row(w, k.ID, k.Name, k.State) })
		})})
	return c
}

func (a *app) keyCreateCmd() *cobra.Command {
	var name string
	var models, addresses []string
	var project, service string
	var expires time.Duration
	c := &cobra.Command{Use: "create", Short: "Create an API key; the secret is shown once", Args: cobra.NoArgs, Example: "  maas key create --name dev\n  KEY=$(maas key create --name ci --quiet)"}
	quiet := c.Flags().BoolP("quiet", "q", false, "print the secret only")
	c.Flags().StringVar(&name, "name", "", "what the key is for")
	c.Flags().StringSliceVar(&models, "model", nil, "allow only these models (repeat or separate by commas)")
	c.Flags().StringSliceVar(&addresses, "ip", nil, "allow it only from these addresses or CIDR blocks")
	c.Flags().StringVar(&project, "project", "", "id or short name of the project that its usage is counted on")
	c.Flags().StringVar(&service, "service-account", "", "id of the service account that owns the key")
	c.Flags().DurationVar(&expires, "expires-in", 0, "lifetime such as 720h; 0 = no expiry")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		if name == "" {
			return errUsage{errors.New("--name is needed")}
		}
		body := map[string]any{"name": name}
		if len(models) > 0 {
			body["models"] = models
		}
		if len(addresses) > 0 {
			body["ip_allow"] = addresses
		}
		if project != "" {
			body["project_id"] = project
		}
		if service != "" {
			body["service_account_id"] = service
		}
		if expires > 0 {
			body["expires_at"] = time.Now().Add(expires).UTC().Truncate(time.Second)
		}
		var k keyView
		if err := cl.do(ctx, http.MethodPost, "/keys", body, &k); err != nil {
			return err
		}
		if *quiet {
			_, err := fmt.Fprintln(a.out, k.Secret)
			return err
		}
		return a.print(k, func(w io.Writer) {
			fmt.Fprintf(w, "%s\n\nThis is the only time that the key is shown. Use it as:\n  export OPENAI_BASE_URL=%s/v1\n  export OPENAI_API_KEY=%s\n", k.Secret, cl.base, k.Secret)
		})
	})
	return c
}

// withClient wraps a command that talks to the server.
func (a *app) withClient(f func(context.Context, *client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		return f(cmd.Context(), cl, args)
	}
}

// exactly is cobra.ExactArgs with words.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return errUsage{fmt.Errorf("give %s", what)}
		}
		return nil
	}
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return t.Format(time.DateOnly)
}
