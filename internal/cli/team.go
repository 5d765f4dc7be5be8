package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type tenantView struct {
	ID       string `json:"id"`
	Slug     string `json:"slug"`
	Name     string `json:"name"`
	Status   string `json:"status"`
	Timezone string `json:"timezone"`
	Role     string `json:"role,omitempty"`
	Current  bool   `json:"current"`
	Members  int64  `json:"members"`
}

type tenantMade struct {
	tenantView
	Invitation *inviteView `json:"invitation,omitempty"`
}

type tenantJobView struct {
	JobID       string `json:"job_id"`
	TenantID    string `json:"tenant_id"`
	DownloadURL string `json:"download_url,omitempty"`
}

func (a *app) tenants(list []tenantView) error {
	return a.print(list, func(w io.Writer) {
		row(w, "", "ID", "NAME", "SHORT", "STATUS", "ROLE", "MEMBERS")
		for _, t := range list {
			mark := ""
			if t.Current {
				mark = "*"
			}
			row(w, mark, t.ID, t.Name, t.Slug, t.Status, orDash(t.Role), strconv.FormatInt(t.Members, 10))
		}
	})
}

func (a *app) tenantCmd() *cobra.Command {
	c := &cobra.Command{Use: "tenant", Short: "Organisations: yours, and for operators all of the installation"}
	everything := false
	list := &cobra.Command{Use: "list", Short: "List your organisations", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
		path := "/auth/tenants"
		if everything {
			path = "/tenants"
		}
		list, err := all[tenantView](ctx, cl, path)
		if err != nil {
			return err
		}
		return a.tenants(list)
	})}
	list.Flags().BoolVar(&everything, "all", false, "all organisations of the installation (operators)")
	var owner, slug string
	create := &cobra.Command{Use: "create NAME", Short: "Make an organisation (operators)", Args: exactly(1, "the name"), Example: "  maas tenant create \"Vision Lab\" --owner grace@example.com",
		RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			var t tenantMade
			if err := cl.do(ctx, http.MethodPost, "/tenants", map[string]any{"name": args[0], "slug": slug, "owner_email": owner}, &t); err != nil {
				return err
			}
			return a.print(t, func(w io.Writer) {
				row(w, t.ID, t.Name, t.Slug)
				if t.Invitation != nil {
					fmt.Fprintln(w, t.Invitation.AcceptURL)
				}
			})
		})}
	create.Flags().StringVar(&owner, "owner", "", "address of the person who is invited as its owner (default: you become it)")
	create.Flags().StringVar(&slug, "slug", "", "short name (default: made from the name)")
	c.AddCommand(list, create, a.tenantSwitchCmd(), a.tenantVerbCmd("suspend", "Stop an organisation: calls are refused within a second (operators)"), a.tenantVerbCmd("activate", "Undo suspend (operators)"),
		a.tenantExportCmd(), a.tenantPurgeCmd())
	return c
}

// tenantID finds an organisation among those that the caller may name, by id or short name.
func tenantID(ctx context.Context, cl *client, path, name string) (string, error) {
	if strings.HasPrefix(name, "ten_") {
		return name, nil
	}
	list, err := all[tenantView](ctx, cl, path)
	if err != nil {
		return "", err
	}
	for _, t := range list {
		if t.Slug == name || t.Name == name {
			return t.ID, nil
		}
	}
	return "", errUsage{fmt.Errorf("there is no organisation %q; see `maas tenant list`", name)}
}

func (a *app) tenantSwitchCmd() *cobra.Command {
	return &cobra.Command{Use: "switch NAME", Short: "Let the session of `maas login` act in another organisation", Args: exactly(1, "the id or short name of the organisation"),
		RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			id, err := tenantID(ctx, cl, "/auth/tenants", args[0])
			if err != nil {
				return err
			}
			var s session
			if err := cl.do(ctx, http.MethodPost, "/auth/switch", map[string]any{"tenant_id": id}, &s); err != nil {
				return err
			}
			if cred, err := loadCredential(); err == nil && cred.URL == cl.base && a.token == "" {
				cred.take(s)
				if err := cred.save(); err != nil {
					return err
				}
			}
			return a.print(map[string]string{"tenant_id": id}, func(w io.Writer) { fmt.Fprintf(w, "The session acts in %s.\n", args[0]) })
		})}
}

func (a *app) tenantVerbCmd(verb, short string) *cobra.Command {
	return &cobra.Command{Use: verb + " NAME", Short: short, Args: exactly(1, "the id or short name of the organisation"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		id, err := tenantID(ctx, cl, "/tenants", args[0])
		if err != nil {
			return err
		}
		var t tenantView
		if err := cl.do(ctx, http.MethodPost, "/tenants/"+id+"/"+verb, nil, &t); err != nil {
			return err
		}
		return a.print(t, func(w io.Writer) { row(w, t.ID, t.Name, t.Status) })
	})}
}

func (a *app) tenantExportCmd() *cobra.Command {
	return &cobra.Command{Use: "export [NAME]", Short: "Ask for a file with everything that the database holds of an organisation, but for secrets (default: your own)", Args: cobra.MaximumNArgs(1),
		RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			id := "current"
			if len(args) > 0 {
				var err error
				if id, err = tenantID(ctx, cl, "/tenants", args[0]); err != nil {
					return err
				}
			}
			var j tenantJobView
			if err := cl.do(ctx, http.MethodPost, "/tenants/"+id+"/export", nil, &j); err != nil {
				return err
			}
			j.DownloadURL = cl.base + "/api/v1/tenants/" + id + "/export"
			return a.print(j, func(w io.Writer) { fmt.Fprintf(w, "Job %s writes it; then it is at %s\n", j.JobID, j.DownloadURL) })
		})}
}

func (a *app) tenantPurgeCmd() *cobra.Command {
	sure := false
	c := &cobra.Command{Use: "purge NAME", Short: "Delete a suspended organisation with all that it has, in every service (operators)", Args: exactly(1, "the id or short name of the organisation")}
	c.Flags().BoolVar(&sure, "yes", false, "really: it cannot be undone")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		if !sure {
			return errUsage{errors.New("this cannot be undone: say --yes")}
		}
		id, err := tenantID(ctx, cl, "/tenants", args[0])
		if err != nil {
			return err
		}
		var j tenantJobView
		if err := cl.do(ctx, http.MethodPost, "/tenants/"+id+"/purge", nil, &j); err != nil {
			return err
		}
		return a.print(j, func(w io.Writer) { row(w, j.JobID, "purges", j.TenantID) })
	})
	return c
}

type memberView struct {
	ID       string    `json:"id"`
	Email    string    `json:"email"`
	RoleName string    `json:"role_name"`
	Status   string    `json:"status"`
	JoinedAt time.Time `json:"joined_at"`
}

func (a *app) memberCmd() *cobra.Command {
	c := &cobra.Command{Use: "member", Short: "Members of the organisation"}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List members", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			list, err := all[memberView](ctx, cl, "/members")
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "ID", "E-MAIL", "ROLE", "STATUS", "JOINED")
				for _, m := range list {
					row(w, m.ID, m.Email, m.RoleName, m.Status, m.JoinedAt.Format(time.DateOnly))
				}
			})
		})},
		&cobra.Command{Use: "role ID ROLE", Short: "Give a member another role (built-in name, or id of a role of yours)", Args: exactly(2, "the id of the member and the role"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			var m memberView
			if err := cl.do(ctx, http.MethodPatch, "/members/"+args[0], map[string]any{"roles": args[1:]}, &m); err != nil {
				return err
			}
			return a.print(m, func(w io.Writer) { row(w, m.ID, m.Email, m.RoleName) })
		})},
		&cobra.Command{Use: "remove ID", Short: "Take a member out: sessions here end, keys are revoked", Args: exactly(1, "the id of the member"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/members/"+args[0], nil, nil)
		})},
	)
	return c
}

type inviteView struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	RoleName  string    `json:"role_name"`
	State     string    `json:"state"`
	Mailed    bool      `json:"mailed"`
	ExpiresAt time.Time `json:"expires_at"`
	AcceptURL string    `json:"accept_url,omitempty"`
}

func (a *app) inviteCmd() *cobra.Command {
	var role string
	var projects []string
	c := &cobra.Command{Use: "invite", Short: "Invitations to the organisation"}
	create := &cobra.Command{Use: "create EMAIL", Short: "Invite a person; the link is shown once", Args: exactly(1, "the e-mail address"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var i inviteView
		if err := cl.do(ctx, http.MethodPost, "/invitations", map[string]any{"email": args[0], "roles": []string{role}, "projects": projects}, &i); err != nil {
			return err
		}
		return a.print(i, func(w io.Writer) {
			fmt.Fprintln(w, i.AcceptURL)
			if !i.Mailed {
				fmt.Fprintln(w, "No mail was sent: hand the link over yourself.")
			}
		})
	})}
	create.Flags().StringVar(&role, "role", "developer", "owner, admin, developer, viewer, billing, or the id of a role of yours")
	create.Flags().StringSliceVar(&projects, "project", nil, "ids of projects that come with the membership")
	c.AddCommand(create,
		&cobra.Command{Use: "list", Short: "List invitations", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			list, err := all[inviteView](ctx, cl, "/invitations")
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "ID", "E-MAIL", "ROLE", "STATE", "UNTIL")
				for _, i := range list {
					row(w, i.ID, i.Email, i.RoleName, i.State, i.ExpiresAt.Format(time.DateOnly))
				}
			})
		})},
		&cobra.Command{Use: "revoke ID", Short: "Withdraw an invitation", Args: exactly(1, "the id of the invitation"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/invitations/"+args[0], nil, nil)
		})})
	return c
}

type projectView struct {
	ID      string `json:"id"`
	Slug    string `json:"slug"`
	Name    string `json:"name"`
	Status  string `json:"status"`
	Members int64  `json:"members"`
	Role    string `json:"role,omitempty"`
}

func (a *app) projectCmd() *cobra.Command {
	var slug, as string
	c := &cobra.Command{Use: "project", Short: "Projects that keys and usage are counted on"}
	create := &cobra.Command{Use: "create NAME", Short: "Make a project; you become its lead", Args: exactly(1, "the name"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var p projectView
		if err := cl.do(ctx, http.MethodPost, "/projects", map[string]any{"name": args[0], "slug": slug}, &p); err != nil {
			return err
		}
		return a.print(p, func(w io.Writer) { row(w, p.ID, p.Slug, p.Name) })
	})}
	create.Flags().StringVar(&slug, "slug", "", "short name for the header X-Maas-Project (default: made from the name)")
	add := &cobra.Command{Use: "add PROJECT MEMBER", Short: "Add a member or service account to a project", Args: exactly(2, "the ids of the project and of the member"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		return cl.do(ctx, http.MethodPut, "/projects/"+args[0]+"/members/"+args[1], map[string]any{"role": as}, nil)
	})}
	add.Flags().StringVar(&as, "as", "member", "member, or lead: manages the project and its members")
	c.AddCommand(create, add,
		&cobra.Command{Use: "list", Short: "List projects", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			list, err := all[projectView](ctx, cl, "/projects")
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "ID", "SHORT", "NAME", "STATUS", "MEMBERS", "YOU")
				for _, p := range list {
					row(w, p.ID, p.Slug, p.Name, p.Status, strconv.FormatInt(p.Members, 10), orDash(p.Role))
				}
			})
		})},
		&cobra.Command{Use: "remove PROJECT MEMBER", Short: "Take an account out of a project", Args: exactly(2, "the ids of the project and of the member"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/projects/"+args[0]+"/members/"+args[1], nil, nil)
		})},
		&cobra.Command{Use: "archive PROJECT", Short: "Archive a project: its keys stop", Args: exactly(1, "the id of the project"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodPatch, "/projects/"+args[0], map[string]any{"status": "archived"}, nil)
		})})
	return c
}

type roleView struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Builtin     bool     `json:"builtin"`
	Members     int64    `json:"members"`
	Permissions []string `json:"permissions"`
}

func (a *app) roleCmd() *cobra.Command {
	var permissions []string
	c := &cobra.Command{Use: "role", Short: "Roles: built-in ones and those of the organisation"}
	create := &cobra.Command{Use: "create NAME", Short: "Make a role of permissions that you hold", Args: exactly(1, "the name"), Example: "  maas role create \"Model keeper\" --permission model:read,model:write",
		RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			var r roleView
			if err := cl.do(ctx, http.MethodPost, "/roles", map[string]any{"name": args[0], "permissions": permissions}, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { row(w, r.ID, r.Name, strings.Join(r.Permissions, ",")) })
		})}
	create.Flags().StringSliceVar(&permissions, "permission", nil, "permissions, as `maas role permissions` lists them")
	c.AddCommand(create,
		&cobra.Command{Use: "list", Short: "List roles", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			list, err := all[roleView](ctx, cl, "/roles")
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "ID", "NAME", "MEMBERS", "PERMISSIONS")
				for _, r := range list {
					row(w, r.ID, r.Name, strconv.FormatInt(r.Members, 10), strconv.Itoa(len(r.Permissions)))
				}
			})
		})},
		&cobra.Command{Use: "permissions", Short: "List permissions and who holds them", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			type permission struct {
				Name  string   `json:"name"`
				Title string   `json:"title"`
				Roles []string `json:"roles"`
				Own   bool     `json:"own"`
			}
			list, err := all[permission](ctx, cl, "/permissions")
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "NAME", "ALLOWS TO", "ROLES")
				for _, p := range list {
					row(w, p.Name, p.Title, strings.Join(p.Roles, ","))
				}
			})
		})},
		&cobra.Command{Use: "delete ID", Short: "Delete a role that nobody has", Args: exactly(1, "the id of the role"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/roles/"+args[0], nil, nil)
		})})
	return c
}

type serviceView struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	RoleName string `json:"role_name"`
	Status   string `json:"status"`
	Keys     int64  `json:"keys"`
}

func (a *app) serviceCmd() *cobra.Command {
	var role, project string
	c := &cobra.Command{Use: "service-account", Short: "Accounts for programs: they own keys and never sign in"}
	create := &cobra.Command{Use: "create NAME", Short: "Make a service account; `maas key create --service-account ID` makes its keys", Args: exactly(1, "the name"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var s serviceView
		if err := cl.do(ctx, http.MethodPost, "/service-accounts", map[string]any{"name": args[0], "roles": []string{role}, "project_id": project}, &s); err != nil {
			return err
		}
		return a.print(s, func(w io.Writer) { row(w, s.ID, s.Name, s.RoleName) })
	})}
	create.Flags().StringVar(&role, "role", "developer", "admin, developer, viewer, billing, or the id of a role of yours")
	create.Flags().StringVar(&project, "project", "", "id or short name of the project that its keys belong to")
	c.AddCommand(create,
		&cobra.Command{Use: "list", Short: "List service accounts", Args: cobra.NoArgs, RunE: a.withClient(func(ctx context.Context, cl *client, _ []string) error {
			list, err := all[serviceView](ctx, cl, "/service-accounts")
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "ID", "NAME", "ROLE", "STATUS", "KEYS")
				for _, s := range list {
					row(w, s.ID, s.Name, s.RoleName, s.Status, strconv.FormatInt(s.Keys, 10))
				}
			})
		})},
		&cobra.Command{Use: "delete ID", Short: "End a service account: its keys are revoked", Args: exactly(1, "the id of the service account"), RunE: a.withClient(func(ctx context.Context, cl *client, args []string) error {
			return cl.do(ctx, http.MethodDelete, "/service-accounts/"+url.PathEscape(args[0]), nil, nil)
		})})
	return c
}

func (a *app) keyRotateCmd() *cobra.Command {
	var overlap time.Duration
	c := &cobra.Command{Use: "rotate ID", Short: "Give a key a new secret, shown once; the old one goes on working for a while", Args: exactly(1, "the id of the key"), Example: "  maas key rotate key_01.. --overlap 24h"}
	quiet := c.Flags().BoolP("quiet", "q", false, "print the secret only")
	c.Flags().DurationVar(&overlap, "overlap", 0, "how long the old secret works too; 0 = it ends at once")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var k keyView
		if err := cl.do(ctx, http.MethodPost, "/keys/"+args[0]+"/rotate", map[string]any{"overlap_s": int(overlap.Seconds())}, &k); err != nil {
			return err
		}
		if *quiet {
			_, err := fmt.Fprintln(a.out, k.Secret)
			return err
		}
		return a.print(k, func(w io.Writer) { fmt.Fprintf(w, "%s\n\nThis is the only time that the secret is shown.\n", k.Secret) })
	})
	return c
}
