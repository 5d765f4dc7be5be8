package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// loginAnswer is a session, or the question for a second factor.
type loginAnswer struct {
	session
	MFARequired bool     `json:"mfa_required"`
	MFAToken    string   `json:"mfa_token"`
	Methods     []string `json:"methods"`
}

// signIn begins a session; where the account has a second factor it asks for the code. Passkeys need a browser.
func (a *app) signIn(ctx context.Context, cl *client, email, password, code string) (session, error) {
	var answer loginAnswer
	if err := cl.do(ctx, http.MethodPost, "/auth/login", map[string]any{"email": email, "password": password, "client": "cli", "remember": true}, &answer); err != nil {
		return session{}, err
	}
	if !answer.MFARequired {
		return answer.session, nil
	}
	if !slices.Contains(answer.Methods, "totp") && !slices.Contains(answer.Methods, "recovery") {
		return session{}, errUsage{errors.New("this account signs in with a passkey, which needs a browser: use an API key here (MAAS_TOKEN)")}
	}
	if code == "" {
		var err error
		if code, err = a.ask("Code of the authenticator app, or a recovery code: "); err != nil {
			return session{}, err
		}
	}
	method := "recovery"
	if appCode.MatchString(code) {
		method = "totp"
	}
	err := cl.do(ctx, http.MethodPost, "/auth/login/mfa", map[string]any{"mfa_token": answer.MFAToken, "method": method, "code": code, "client": "cli"}, &answer)
	return answer.session, err
}

var appCode = regexp.MustCompile(`^\s*\d{3}\s?\d{3}\s*$`)

// ask reads one line from the terminal.
func (a *app) ask(question string) (string, error) {
	f, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor
		return "", errUsage{errors.New("the account has a second factor: give --code")}
	}
	fmt.Fprint(a.err, question)
	line, err := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	return strings.TrimSpace(line), err
}

// userVerbCmd is a verb on a person, named by id, address or user name.
func (a *app) userVerbCmd(verb, short, done string) *cobra.Command {
	c := &cobra.Command{Use: verb + " PERSON", Short: short, Args: exactly(1, "the person: id or e-mail address"), Example: "  maas user " + verb + " ada@example.com"}
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		uid, err := personID(ctx, cl, args[0])
		if err != nil {
			return err
		}
		if err := cl.do(ctx, http.MethodPost, "/users/"+uid+"/"+verb, nil, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"id": uid, "result": done}, func(w io.Writer) { row(w, args[0], done) })
	})
	return c
}

// personID finds a person of the team.
func personID(ctx context.Context, cl *client, name string) (string, error) {
	if strings.HasPrefix(name, "usr_") {
		return name, nil
	}
	users, err := all[userView](ctx, cl, "/users")
	if err != nil {
		return "", err
	}
	for _, u := range users {
		if strings.EqualFold(u.Email, name) {
			return u.ID, nil
		}
	}
	return "", errUsage{fmt.Errorf("there is no %s in this team", name)}
}
