package user

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
)

func whole[T any](T) error { return nil }

// team is two organisations: the first of the owner, a second with an owner of its own; both hold a person in common.
type team struct {
	*world
	owner, stranger context.Context //nolint:containedctx // callers of the test: owners of the two organisations
	strangerID      string
	second          string // id of the second organisation
}

func newTeam(t *testing.T, w *world) *team {
	t.Helper()
	owner, _ := w.owner(t)
	second, inv, err := w.CreateTenant(owner, NewTenant{Name: "Second Lab", OwnerEmail: "grace@example.com"})
	require.NoError(t, err)
	require.Equal(t, "second-lab", second.Slug)
	require.NotNil(t, inv)
	// grace has an account in the first organisation, accepts, and leaves the first
	u, err := w.Create(owner, NewUser{Email: "grace@example.com", Password: "long enough 123", Role: "viewer"})
	require.NoError(t, err)
	ctx := w.signIn(t, "grace@example.com")
	_, err = w.AcceptInvitation(ctx, inv.Token)
	require.NoError(t, err)
	tok, err := w.SwitchTenant(ctx, second.ID)
	require.NoError(t, err)
	require.NoError(t, w.RemoveMember(owner, u.ID))
	return &team{w, owner, w.ctx(t, tok.Access), u.ID, second.ID}
}

func (w *world) signIn(t *testing.T, mail string) context.Context {
	t.Helper()
	tok, err := w.SignIn(t.Context(), Login{Email: mail, Password: "long enough 123"}, home)
	require.NoError(t, err)
	return w.ctx(t, tok.Access)
}

// share makes a member of the first organisation one of the second too.
func (m *team) share(t *testing.T, mail string, role Role) {
	t.Helper()
	inv, err := m.Invite(m.stranger, NewInvitation{Email: mail, RoleInput: RoleInput{Role: string(role)}})
	require.NoError(t, err)
	_, err = m.AcceptInvitation(m.signIn(t, mail), inv.Token)
	require.NoError(t, err)
}

func TestInvitations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		_, dev := w.as(t, m.owner, Developer)
		admin, _ := w.as(t, m.owner, Admin)
		_, err := w.Invite(m.owner, NewInvitation{Email: dev.Email})
		require.ErrorIs(t, err, ErrAlreadyMember)
		_, err = w.Invite(m.owner, NewInvitation{Email: "no", ExpiresAt: w.clock().Add(-time.Hour)})
		require.ErrorIs(t, err, ErrInvitationFields)
		_, err = w.Invite(admin, NewInvitation{Email: "x@example.com", RoleInput: RoleInput{Role: "owner"}})
		require.ErrorIs(t, err, ErrOwnerOnly)
		p, err := w.MakeProject(m.stranger, NewProject{Name: "Alpha"})
		require.NoError(t, err)
		_, err = w.Invite(m.owner, NewInvitation{Email: "x@example.com", Projects: []string{p.ID}})
		require.ErrorIs(t, err, ErrProjectNotFound, "of another organisation")

		first, err := w.Invite(m.stranger, NewInvitation{Email: dev.Email, Projects: []string{p.ID}, RoleInput: RoleInput{Roles: []string{"viewer"}}})
		require.NoError(t, err)
		require.Equal(t, Viewer, first.Role)
		view, err := w.ShowInvitation(t.Context(), first.Token)
		require.NoError(t, err)
		require.Equal(t, "Second Lab", view.Tenant.Name)
		require.True(t, view.AccountExists)
		_, err = w.AcceptInvitation(m.owner, first.Token)
		require.ErrorIs(t, err, ErrInvitationNotFound, "for another person")
		again, err := w.ResendInvitation(m.stranger, first.ID)
		require.NoError(t, err)
		_, err = w.ShowInvitation(t.Context(), first.Token)
		require.ErrorIs(t, err, ErrInvitationNotFound, "the old link ends")
		_, err = w.ResendInvitation(m.owner, first.ID)
		require.ErrorIs(t, err, ErrInvitationNotFound, "of another organisation")
		ctx := w.signIn(t, dev.Email)
		_, err = w.AcceptInvitation(ctx, again.Token)
		require.NoError(t, err)
		_, err = w.AcceptInvitation(ctx, again.Token)
		require.ErrorIs(t, err, ErrInvitationNotFound, "once")
		mine, err := w.MyTenants(ctx, 10, "")
		require.NoError(t, err)
		require.Len(t, mine.Items, 2)
		tok, err := w.SwitchTenant(ctx, m.second)
		require.NoError(t, err)
		who, _ := auth.From(w.ctx(t, tok.Access))
		require.Equal(t, []auth.Project{{ID: p.ID, Slug: "alpha"}}, who.Projects)
		require.Equal(t, "viewer", who.Role)

		late, err := w.Invite(m.owner, NewInvitation{Email: "late@example.com", ExpiresAt: w.clock().Add(time.Hour)})
		require.NoError(t, err)
		w.wait(61 * time.Minute)
		_, err = w.ShowInvitation(t.Context(), late.Token)
		require.ErrorIs(t, err, ErrInvitationNotFound)
		list, err := w.Invitations(m.owner, 10, "")
		require.NoError(t, err)
		require.Equal(t, "expired", list.Items[0].State)
		require.NoError(t, w.RevokeInvitation(m.owner, late.ID))
		require.ErrorIs(t, w.RevokeInvitation(m.owner, late.ID), ErrInvitationClosed)
	})
}

func TestSharedAccountsAreSafe(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		_, dev := w.as(t, m.owner, Developer)
		m.share(t, dev.Email, Admin)
		here, there := w.signIn(t, dev.Email), w.signIn(t, dev.Email)
		tok, err := w.SwitchTenant(there, m.second)
		require.NoError(t, err)
		there = w.ctx(t, tok.Access)
		key, err := w.MakeKey(there, NewKey{Name: "k"})
		require.NoError(t, err)
		old, err := w.MakeKey(here, NewKey{Name: "k"})
		require.NoError(t, err)

		for _, patch := range []Patch{{Email: new("taken@example.com")}, {Username: new("other")}, {Profile: &Profile{FirstName: "X"}}, {Locale: new("zh")}} {
			_, err := w.Update(m.owner, dev.ID, patch, whole)
			require.ErrorIs(t, err, ErrSharedAccount)
		}
		got, err := w.Member(m.owner, dev.ID)
		require.NoError(t, err)
		require.True(t, got.Shared)
		_, err = w.UpdateMember(m.owner, dev.ID, MemberPatch{Status: new("suspended")})
		require.NoError(t, err)
		require.ErrorIs(t, w.refused(t, old.Secret), ErrSuspended)
		require.NoError(t, w.refused(t, key.Secret), "the other organisation is not touched")
		require.NoError(t, w.refused(t, tok.Access))
		again := w.signIn(t, dev.Email) // signs in where the person is active
		who, _ := auth.From(again)
		require.Equal(t, m.second, who.TenantID)

		require.NoError(t, w.RemoveMember(m.owner, dev.ID))
		require.ErrorIs(t, w.refused(t, old.Secret), ErrKeyRevoked)
		require.NoError(t, w.refused(t, key.Secret))
		me, err := w.Me(there)
		require.NoError(t, err)
		require.Equal(t, dev.Email, me.Email, "not erased: there is another membership")
		_, err = w.Member(m.owner, dev.ID)
		require.ErrorIs(t, err, ErrMemberNotFound)
		require.NoError(t, w.RemoveMember(m.stranger, dev.ID))
		require.ErrorIs(t, w.refused(t, key.Secret), ErrKeyRevoked)
		_, err = w.SignIn(t.Context(), Login{Email: dev.Email, Password: "long enough 123"}, home)
		require.ErrorIs(t, err, ErrBadCredentials)
	})
}

func TestNobodyGivesMoreThanTheyHold(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		admin, adminUser := w.as(t, m.owner, Admin)
		_, dev := w.as(t, m.owner, Developer)
		_, err := w.MakeRole(admin, NewRole{Name: "Closer", Permissions: []string{"tenant:delete"}})
		require.ErrorIs(t, err, ErrMoreThanOwn)
		_, err = w.MakeRole(m.owner, NewRole{Name: " viewer ", Permissions: []string{"nonsense:read"}})
		require.ErrorIs(t, err, ErrRoleFields)
		closer, err := w.MakeRole(m.owner, NewRole{Name: "Closer", Permissions: []string{"tenant:delete", "user:read"}})
		require.NoError(t, err)
		_, err = w.MakeRole(m.owner, NewRole{Name: "closer", Permissions: []string{"user:read"}})
		require.ErrorIs(t, err, ErrRoleTaken)
		for name, err := range map[string]error{
			"member":  second(w.UpdateMember(admin, dev.ID, MemberPatch{RoleInput: RoleInput{Role: closer.ID}})),
			"service": second(w.MakeServiceAccount(admin, NewServiceAccount{Name: "s", RoleInput: RoleInput{Role: closer.ID}})),
			"invite":  second(w.Invite(admin, NewInvitation{Email: "n@example.com", RoleInput: RoleInput{Role: closer.ID}})),
			"grant":   second(w.MakeGrant(admin, NewGrant{Subject: GrantSubject{Kind: "user", ID: dev.ID}, Role: closer.ID})),
			"create":  second(w.Create(admin, NewUser{Email: "c@example.com", Password: "long enough 123", Role: closer.ID})),
			"role":    second(w.UpdateRole(admin, closer.ID, RolePatch{Permissions: &[]string{"user:read"}}, whole)),
		} {
			require.ErrorIs(t, err, ErrMoreThanOwn, name)
		}
		_, err = w.UpdateMember(m.stranger, dev.ID, MemberPatch{RoleInput: RoleInput{Role: "viewer"}})
		require.ErrorIs(t, err, ErrMemberNotFound)
		_, err = w.UpdateMember(m.owner, dev.ID, MemberPatch{RoleInput: RoleInput{Role: "rol_none"}})
		require.ErrorIs(t, err, ErrBadRole)

		// a custom role acts, follows its changes at once, and stays while somebody has it
		helper, err := w.MakeRole(admin, NewRole{Name: "Helper", Permissions: []string{"user:write", "user:read"}})
		require.NoError(t, err)
		_, err = w.UpdateMember(admin, dev.ID, MemberPatch{RoleInput: RoleInput{Roles: []string{helper.ID}}})
		require.NoError(t, err)
		ctx := w.signIn(t, dev.Email)
		require.NoError(t, auth.Need(ctx, "user:write"))
		require.ErrorIs(t, auth.Need(ctx, "model:read"), auth.ErrForbidden)
		_, err = w.UpdateMember(ctx, adminUser.ID, MemberPatch{Status: new("suspended")})
		require.ErrorIs(t, err, ErrMoreThanOwn, "a helper does not touch admins")
		require.ErrorIs(t, w.RemoveMember(ctx, adminUser.ID), ErrMoreThanOwn)
		require.ErrorIs(t, w.DeleteRole(m.owner, helper.ID), ErrRoleInUse)
		require.ErrorIs(t, w.DeleteRole(m.stranger, helper.ID), ErrRoleNotFound)
		_, err = w.UpdateRole(admin, helper.ID, RolePatch{Permissions: &[]string{"user:read"}}, whole)
		require.NoError(t, err)
		me, _ := auth.From(ctx)
		p, err := w.Session(t.Context(), me.SessionID)
		require.NoError(t, err)
		require.Equal(t, []string{"user:read"}, p.Permissions)
		_, err = w.UpdateMember(m.owner, dev.ID, MemberPatch{RoleInput: RoleInput{Role: "billing"}})
		require.NoError(t, err)
		require.NoError(t, w.DeleteRole(m.owner, helper.ID))
		require.ErrorIs(t, w.DeleteRole(m.owner, "owner"), ErrRoleBuiltIn)
		roles, err := w.RoleList(m.owner)
		require.NoError(t, err)
		require.Len(t, roles, len(Roles)+1)
		require.Equal(t, int64(1), roles[4].Members, "billing")
	})
}

func second[T any](_ T, err error) error { return err }

func TestProjects(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		dev, devUser := w.as(t, m.owner, Developer)
		p, err := w.MakeProject(m.owner, NewProject{Name: "Café Über"})
		require.NoError(t, err)
		require.Equal(t, "cafe-uber", p.Slug)
		_, err = w.MakeProject(m.owner, NewProject{Name: "x", Slug: "cafe-uber"})
		require.ErrorIs(t, err, ErrProjectTaken)
		_, err = w.MakeProject(m.stranger, NewProject{Name: "x", Slug: "cafe-uber"})
		require.NoError(t, err, "names are free in each organisation")
		_, err = w.Project(m.stranger, p.ID)
		require.ErrorIs(t, err, ErrProjectNotFound)
		_, err = w.PutProjectMember(m.owner, p.ID, m.strangerID, "member")
		require.ErrorIs(t, err, ErrMemberNotFound)
		_, err = w.UpdateProject(dev, p.ID, ProjectPatch{Name: new("mine")}, whole)
		require.ErrorIs(t, err, auth.ErrForbidden)

		key, err := w.MakeKey(dev, NewKey{Name: "k"})
		require.NoError(t, err)
		_, err = w.Authenticate(t.Context(), asked(key.Secret, "192.0.2.1:1", "X-Maas-Project", p.ID))
		require.ErrorIs(t, err, auth.ErrProject)
		_, err = w.PutProjectMember(m.owner, p.ID, devUser.ID, "lead")
		require.NoError(t, err)
		for _, header := range []string{"X-Maas-Project", "OpenAI-Project"} {
			for _, name := range []string{p.ID, p.Slug} {
				who, err := w.Authenticate(t.Context(), asked(key.Secret, "192.0.2.1:1", header, name))
				require.NoError(t, err)
				require.Equal(t, p.ID, who.Project)
			}
		}
		bound, err := w.MakeKey(dev, NewKey{Name: "b", Project: p.Slug})
		require.NoError(t, err)
		require.Equal(t, p.ID, bound.ProjectID)
		other, err := w.MakeProject(m.owner, NewProject{Name: "Other"})
		require.NoError(t, err)
		_, err = w.PutProjectMember(m.owner, other.ID, devUser.ID, "member")
		require.NoError(t, err)
		who, err := w.Authenticate(t.Context(), asked(bound.Secret, "192.0.2.1:1"))
		require.NoError(t, err)
		require.Equal(t, p.ID, who.Project)
		_, err = w.Authenticate(t.Context(), asked(bound.Secret, "192.0.2.1:1", "X-Maas-Project", other.ID))
		require.ErrorIs(t, err, auth.ErrProject, "a key of a project stays in it")
		_, err = w.MakeKey(w.ctx(t, bound.Secret), NewKey{Name: "c", Project: other.ID})
		require.ErrorIs(t, err, auth.ErrProject)

		require.ErrorIs(t, w.DeleteProject(dev, p.ID), ErrProjectInUse)
		_, err = w.UpdateProject(dev, p.ID, ProjectPatch{Status: new("archived")}, whole)
		require.NoError(t, err, "a lead may")
		require.ErrorIs(t, w.refused(t, bound.Secret), ErrSuspended)
		_, err = w.Authenticate(t.Context(), asked(key.Secret, "192.0.2.1:1", "X-Maas-Project", p.ID))
		require.ErrorIs(t, err, auth.ErrProject)
		_, err = w.UpdateProject(dev, p.ID, ProjectPatch{Status: new("active")}, whole)
		require.NoError(t, err)
		require.NoError(t, w.refused(t, bound.Secret))
		require.NoError(t, w.DropProjectMember(m.owner, other.ID, devUser.ID))
		require.ErrorIs(t, w.DropProjectMember(m.owner, other.ID, devUser.ID), ErrMemberNotFound)
		_, err = w.RevokeKey(dev, bound.ID)
		require.NoError(t, err)
		require.NoError(t, w.DeleteProject(dev, p.ID))
		list, err := w.Projects(dev, 10, "")
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
	})
}

func TestServiceAccounts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		dev, devUser := w.as(t, m.owner, Developer)
		other, _ := w.as(t, m.owner, Developer)
		_, err := w.MakeServiceAccount(dev, NewServiceAccount{Name: "ci", RoleInput: RoleInput{Role: "admin"}})
		require.ErrorIs(t, err, ErrMoreThanOwn)
		_, err = w.MakeServiceAccount(m.owner, NewServiceAccount{Name: "ci", RoleInput: RoleInput{Role: "owner"}})
		require.ErrorIs(t, err, ErrServiceFields)
		a, err := w.MakeServiceAccount(dev, NewServiceAccount{Name: "ci", Description: "builds"})
		require.NoError(t, err)
		_, err = w.ServiceAccount(other, a.ID)
		require.ErrorIs(t, err, ErrServiceNotFound)
		_, err = w.ServiceAccount(m.stranger, a.ID)
		require.ErrorIs(t, err, ErrServiceNotFound)
		_, err = w.MakeKey(other, NewKey{Name: "k", Service: a.ID})
		require.ErrorIs(t, err, ErrServiceNotFound)
		k, err := w.MakeKey(dev, NewKey{Name: "k", Service: a.ID, Scopes: []string{"all"}})
		require.NoError(t, err)
		require.Equal(t, KeyOwner{a.ID, "ci", "service"}, k.Owner)
		who, _ := auth.From(w.ctx(t, k.Secret))
		require.Equal(t, a.ID, who.UserID)
		list, err := w.Keys(dev, KeyFilter{Owner: a.ID, Limit: 10})
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
		_, err = w.User(m.owner, a.ID)
		require.ErrorIs(t, err, ErrNotFound, "it is no person")
		require.ErrorIs(t, w.Delete(m.owner, a.ID), ErrNotFound)
		people, err := w.Users(m.owner, 100, "")
		require.NoError(t, err)
		for _, u := range people.Items {
			require.NotEqual(t, a.ID, u.ID)
		}

		_, err = w.UpdateServiceAccount(m.owner, a.ID, ServiceAccountPatch{RoleInput: RoleInput{Role: "viewer"}}, whole)
		require.NoError(t, err)
		require.ErrorIs(t, auth.Need(w.ctx(t, k.Secret), "model:write"), auth.ErrForbidden, "a key may no more than its owner")
		_, err = w.UpdateServiceAccount(dev, a.ID, ServiceAccountPatch{Status: new("suspended")}, whole)
		require.NoError(t, err)
		require.ErrorIs(t, w.refused(t, k.Secret), ErrSuspended)
		_, err = w.UpdateServiceAccount(dev, a.ID, ServiceAccountPatch{Status: new("active")}, whole)
		require.NoError(t, err)
		require.NoError(t, w.refused(t, k.Secret))
		require.NoError(t, w.RemoveMember(m.owner, devUser.ID))
		require.NoError(t, w.refused(t, k.Secret), "programs outlive the people who made them")
		require.NoError(t, w.DeleteServiceAccount(m.owner, a.ID))
		require.ErrorIs(t, w.refused(t, k.Secret), ErrKeyRevoked)
		_, err = w.ServiceAccount(m.owner, a.ID)
		require.ErrorIs(t, err, ErrServiceNotFound)
	})
}

func TestGrants(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		viewer, user := w.as(t, m.owner, Viewer)
		key, err := w.MakeServiceAccount(m.owner, NewServiceAccount{Name: "bot", RoleInput: RoleInput{Role: "viewer"}})
		require.NoError(t, err)
		subject := GrantSubject{Kind: "user", ID: user.ID}
		on := &GrantObject{Kind: "deployment", ID: "dep_1"}
		for name, n := range map[string]NewGrant{
			"both": {Subject: subject, Role: "admin", Permission: "model:read"}, "none": {Subject: subject}, "owner": {Subject: subject, Role: "owner"},
			"unknown": {Subject: subject, Permission: "no:such"}, "operator": {Subject: subject, Permission: "platform:write"}, "other service": {Subject: subject, Permission: "model:write", Object: on},
			"role on object": {Subject: subject, Role: "admin", Object: on}, "past": {Subject: subject, Permission: "model:write", ExpiresAt: w.clock().Add(-time.Second)},
			"kind": {Subject: GrantSubject{Kind: "group", ID: "g"}, Permission: "model:write"}, "object": {Subject: subject, Permission: "user:write", Object: &GrantObject{Kind: "user", ID: "usr_1"}},
		} {
			_, err := w.MakeGrant(m.owner, n)
			require.ErrorIs(t, err, ErrGrantFields, name)
		}
		_, err = w.MakeGrant(m.owner, NewGrant{Subject: GrantSubject{Kind: "service_account", ID: user.ID}, Permission: "model:write"})
		require.ErrorIs(t, err, ErrMemberNotFound)
		_, err = w.MakeGrant(m.stranger, NewGrant{Subject: subject, Permission: "model:write"})
		require.ErrorIs(t, err, ErrMemberNotFound)
		_, err = w.MakeGrant(m.owner, NewGrant{Subject: GrantSubject{Kind: "service_account", ID: key.ID}, Permission: "model:write"})
		require.NoError(t, err)

		who := func() auth.Principal {
			p, _ := auth.From(viewer)
			now, err := w.Session(t.Context(), p.SessionID)
			require.NoError(t, err)
			return now
		}
		g, err := w.MakeGrant(m.owner, NewGrant{Subject: subject, Permission: "inference:write", Object: on, ExpiresAt: w.clock().Add(time.Hour)})
		require.NoError(t, err)
		_, err = w.MakeGrant(m.owner, NewGrant{Subject: subject, Permission: "inference:write", Object: on})
		require.ErrorIs(t, err, ErrGrantTaken)
		require.False(t, who().May("inference:write"))
		require.True(t, who().MayOn("inference:write", auth.Object{Kind: "deployment", ID: "dep_1"}))
		require.False(t, who().MayOn("inference:write", auth.Object{Kind: "deployment", ID: "dep_2"}))
		wide, err := w.MakeGrant(m.owner, NewGrant{Subject: subject, Permission: "model:write"})
		require.NoError(t, err)
		require.True(t, who().May("model:write"))
		require.ErrorIs(t, w.DeleteGrant(m.stranger, wide.ID), ErrGrantNotFound)
		require.NoError(t, w.DeleteGrant(m.owner, wide.ID))
		require.False(t, who().May("model:write"))
		list, err := w.Grants(m.owner, GrantFilter{Subject: user.ID, Limit: 10})
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
		require.Equal(t, g.ID, list.Items[0].ID)
		w.wait(time.Hour)
		require.NoError(t, w.EndGrants(t.Context()))
		require.False(t, who().MayOn("inference:write", auth.Object{Kind: "deployment", ID: "dep_1"}))
		list, err = w.Grants(m.owner, GrantFilter{Subject: user.ID, Limit: 10})
		require.NoError(t, err)
		require.Empty(t, list.Items)
	})
}

func TestTenantsOfOperators(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		require.NoError(t, auth.Need(m.owner, "platform:write"))
		require.ErrorIs(t, auth.Need(m.stranger, "platform:read"), auth.ErrForbidden, "owners of other organisations are no operators")
		key, err := w.MakeKey(m.owner, NewKey{Name: "k", Scopes: []string{"all"}})
		require.NoError(t, err)
		require.ErrorIs(t, auth.Need(w.ctx(t, key.Secret), "platform:write"), auth.ErrForbidden, "no key holds it")
		_, _, err = w.CreateTenant(m.owner, NewTenant{Name: "x", Slug: "second-lab"})
		require.ErrorIs(t, err, ErrTenantTaken)
		_, _, err = w.CreateTenant(m.owner, NewTenant{Name: "", Slug: "Bad Slug"})
		require.ErrorIs(t, err, ErrTenantFields)
		_, err = w.UpdateCurrentTenant(m.stranger, TenantPatch{Timezone: new("Nowhere/At_All")}, whole)
		require.ErrorIs(t, err, ErrTenantFields)
		got, err := w.UpdateCurrentTenant(m.stranger, TenantPatch{Timezone: new("Europe/Berlin"), Name: new("Second")}, whole)
		require.NoError(t, err)
		require.Equal(t, m.second, got.ID)
		require.Equal(t, "Europe/Berlin", got.Timezone)

		theirs, err := w.MakeKey(m.stranger, NewKey{Name: "k"})
		require.NoError(t, err)
		first, _ := auth.From(m.owner)
		_, err = w.SuspendTenant(m.owner, first.TenantID)
		require.ErrorIs(t, err, ErrSelf)
		_, err = w.SuspendTenant(m.owner, m.second)
		require.NoError(t, err)
		require.ErrorIs(t, w.refused(t, theirs.Secret), ErrSuspended)
		_, err = w.SignIn(t.Context(), Login{Email: "grace@example.com", Password: "long enough 123"}, home)
		require.ErrorIs(t, err, ErrSuspended)
		require.NoError(t, w.refused(t, key.Secret))
		_, err = w.ActivateTenant(m.owner, m.second)
		require.NoError(t, err)
		require.NoError(t, w.refused(t, theirs.Secret))
		_, err = w.SwitchTenant(m.owner, m.second)
		require.ErrorIs(t, err, ErrTenantNotFound, "operators are no members")
		all, err := w.Tenants(m.owner, 10, "")
		require.NoError(t, err)
		require.Len(t, all.Items, 2)
	})
}

// What concerns the person reaches their sessions in every organisation.
func TestOnePersonInTwoOrganisations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		_, dev := w.as(t, m.owner, Developer)
		m.share(t, dev.Email, Viewer)
		there, err := w.SignIn(t.Context(), Login{Email: dev.Email, Password: "long enough 123"}, home)
		require.NoError(t, err)
		moved, err := w.SwitchTenant(w.ctx(t, there.Access), m.second)
		require.NoError(t, err)
		here, err := w.SignIn(t.Context(), Login{Email: dev.Email, Password: "long enough 123"}, home)
		require.NoError(t, err)
		require.Equal(t, m.second, here.User.Tenant.ID, "where the person acted last")
		first, _ := auth.From(m.owner)
		here, err = w.SwitchTenant(w.ctx(t, here.Access), first.TenantID)
		require.NoError(t, err)
		ctx := w.ctx(t, here.Access)
		list, err := w.Sessions(ctx)
		require.NoError(t, err)
		acts := map[string]bool{}
		for _, s := range list {
			acts[s.tenantID] = true
		}
		require.Len(t, acts, 2)
		require.NoError(t, w.ChangePassword(ctx, "long enough 123", "another long one 1", home))
		require.ErrorIs(t, w.refused(t, moved.Access), ErrSessionRevoked)
		require.NoError(t, w.refused(t, here.Access))
	})
}

// A grant opens one key to somebody who may not handle all.
func TestGrantOnOneKey(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, _ := w.owner(t)
		_, dev := w.as(t, owner, Developer)
		k, err := w.MakeKey(owner, NewKey{Name: "k"})
		require.NoError(t, err)
		other, err := w.MakeKey(owner, NewKey{Name: "k"})
		require.NoError(t, err)
		_, err = w.MakeGrant(owner, NewGrant{Subject: GrantSubject{Kind: "user", ID: dev.ID}, Permission: "key:admin", Object: &GrantObject{Kind: "key", ID: k.ID}})
		require.NoError(t, err)
		ctx := w.signIn(t, dev.Email)
		_, err = w.Key(ctx, k.ID)
		require.NoError(t, err)
		_, err = w.Key(ctx, other.ID)
		require.ErrorIs(t, err, ErrKeyNotFound)
		_, err = w.UpdateKey(ctx, k.ID, KeyPatch{Scopes: &[]string{"tenant:delete"}}, whole)
		require.ErrorIs(t, err, ErrMoreThanOwn)
		_, err = w.RevokeKey(ctx, k.ID)
		require.NoError(t, err)
	})
}
