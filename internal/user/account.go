package user

import (
	"context"
	"errors"
	"math"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

// Me returns the caller's account with their permissions.
func (s *Service) Me(ctx context.Context) (User, error) {
	p, ok := auth.From(ctx)
	if !ok {
		return User{}, auth.ErrUnauthenticated
	}
	u, err := s.user(ctx, p.TenantID, p.UserID)
	u.Permissions = p.Permissions
	return u, err
}

func (s *Service) user(ctx context.Context, tenant, uid string) (User, error) {
	var u User
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		u, err = userByID(ctx, q, tenant, uid)
		return err
	})
	return u, err
}

// User returns a member of the caller's team: ErrNotFound. "me" is the caller.
func (s *Service) User(ctx context.Context, uid string) (User, error) {
	p, _ := auth.From(ctx)
	if uid == "me" || uid == p.UserID {
		return s.Me(ctx)
	}
	u, err := s.user(ctx, p.TenantID, uid)
	if err == nil && u.service {
		return User{}, ErrNotFound.With("there is no user %q", uid)
	}
	if err == nil && !p.May("user:read_pii") {
		u = u.masked()
	}
	return u, err
}

// Users lists the members of the caller's team, oldest first.
func (s *Service) Users(ctx context.Context, limit int, after string) (page.List[User], error) {
	p, _ := auth.From(ctx)
	limit = page.Limit(limit)
	filter := "users\x00" + p.TenantID
	at, last, err := cursor(filter, after, 0)
	if err != nil {
		return page.List[User]{}, err
	}
	var rows []User
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = usersOf(ctx, q, p.TenantID, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[User]{}, err
	}
	for i := range rows {
		if rows[i].ID != p.UserID && !p.May("user:read_pii") {
			rows[i] = rows[i].masked()
		}
	}
	return page.Of(rows, limit, filter, func(u User) []string { return []string{micros(u.CreatedAt), u.ID} }), nil
}

// Create makes an account in the caller's team. ErrTaken, ErrInvalidUser, ErrWeakPassword; ErrOwnerOnly when an admin makes an owner.
func (s *Service) Create(ctx context.Context, n NewUser) (User, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	me, err := s.user(ctx, p.TenantID, p.UserID)
	if err != nil {
		return User{}, err
	}
	u, err := newUser(n, id.New("usr"), me.Tenant, now)
	if err != nil {
		return User{}, err
	}
	if u.Role == Owner && !p.May("user:grant_owner") {
		return User{}, ErrOwnerOnly
	}
	if err := checkPassword(n.Password, u.Email, u.Username, u.Tenant.Name); err != nil {
		return User{}, err
	}
	if u.password, err = s.hasher.hash(ctx, n.Password); err != nil {
		return User{}, err
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.mayAssign(ctx, tx, u.Role); err != nil {
			return err
		}
		if err := insertUser(ctx, tx, u); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, Changed{UserID: u.ID, Status: u.Status, Role: u.Role, By: p.UserID})
	})
	return u, err
}

// UpdateMe changes the caller's own account; the role is not theirs to change.
func (s *Service) UpdateMe(ctx context.Context, patch Patch) (User, error) {
	p, _ := auth.From(ctx)
	if p.Kind != auth.User {
		return User{}, auth.ErrForbidden.With("an API key cannot change an account")
	}
	patch.Role, patch.Email = nil, nil
	u, err := s.change(ctx, p.UserID, func(u *User, _ time.Time) error { return u.apply(patch, s.Now()) })
	u.Permissions = p.Permissions
	return u, err
}

// Update changes a member of the caller's team.
func (s *Service) Update(ctx context.Context, uid string, patch Patch, check func(User) error) (User, error) {
	return s.change(ctx, uid, func(u *User, now time.Time) error {
		if err := check(*u); err != nil {
			return err
		}
		return u.apply(patch, now)
	})
}

// Suspend stops an account: it cannot sign in, its sessions end, its keys do not work.
func (s *Service) Suspend(ctx context.Context, uid string) (User, error) {
	p, _ := auth.From(ctx)
	return s.change(ctx, uid, func(u *User, now time.Time) error {
		if u.ID == p.UserID {
			return ErrSelf.With("you cannot suspend your own account")
		}
		u.Status, u.UpdatedAt = Suspended, now
		return nil
	})
}

// Activate undoes Suspend.
func (s *Service) Activate(ctx context.Context, uid string) (User, error) {
	return s.change(ctx, uid, func(u *User, now time.Time) error {
		u.Status, u.UpdatedAt = Active, now
		return nil
	})
}

// change applies f to a member under the rules that hold for every change: only owners touch owners, the last active owner stays. Rights that changed act at once.
func (s *Service) change(ctx context.Context, uid string, f func(*User, time.Time) error) (User, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	if uid == "me" {
		uid = p.UserID
	}
	var u User
	err := s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := lockTenant(ctx, tx, p.TenantID, now); err != nil {
			return err
		}
		was, err := userByID(ctx, tx, p.TenantID, uid)
		if err != nil {
			return err
		}
		u = was
		if was.Status == Pending {
			return ErrBadStatus.With("the account waits: approve or reject it first")
		}
		if err := f(&u, now); err != nil {
			return err
		}
		if err := s.mayChange(ctx, tx, was, u); err != nil {
			return err
		}
		if was.Role == Owner && u.ID != p.UserID && !p.May("user:grant_owner") {
			return ErrOwnerOnly
		}
		if was.Role == Owner && (u.Role != Owner || u.Status != Active) {
			if err := s.needAnotherOwner(ctx, tx, u); err != nil {
				return err
			}
		}
		if err := updateUser(ctx, tx, u); err != nil {
			return err
		}
		u.Rev++
		if was.Role == u.Role && was.Status == u.Status && was.Email == u.Email {
			return nil
		}
		return s.rightsChanged(ctx, tx, u, was.Status == Active && u.Status != Active, now)
	})
	return u, err
}

// mayChange holds for every change of a member: only people themselves, or those who share all their organisations, change who they are; nobody gives a role that may more than they do.
func (s *Service) mayChange(ctx context.Context, q db.Querier, was, u User) error {
	p, _ := auth.From(ctx)
	if same := was.Username == u.Username && was.Email == u.Email && was.Profile == u.Profile && was.Locale == u.Locale; !same {
		if err := guardOperator(p, was); err != nil {
			return err
		}
	}
	if u.ID != p.UserID && (was.Username != u.Username || was.Email != u.Email || was.Profile != u.Profile || was.Locale != u.Locale) {
		if n, err := tenantsCount(ctx, q, u.ID); err != nil || n > 1 {
			return errors.Join(err, ErrSharedAccount)
		}
	}
	if was.service {
		return ErrNotFound.With("there is no user %q", u.ID)
	}
	if was.Role == u.Role && (was.Status == u.Status || u.ID == p.UserID) {
		return nil
	}
	return s.mayAssign(ctx, q, was.Role, u.Role)
}

// mayAssign refuses roles that do not exist in the caller's organisation and those that may more than the caller, given or taken.
func (s *Service) mayAssign(ctx context.Context, q db.Querier, roles ...Role) error {
	p, _ := auth.From(ctx)
	for _, r := range roles {
		list, err := rolePermissions(ctx, q, p.TenantID, r)
		if err != nil {
			return err
		}
		if err := covers(p, list); err != nil {
			if r == Owner {
				return ErrOwnerOnly
			}
			return err
		}
	}
	return nil
}

func (s *Service) needAnotherOwner(ctx context.Context, tx *db.Tx, u User) error {
	n, err := countOwners(ctx, tx, u.Tenant.ID, u.ID)
	if err == nil && n == 0 {
		return ErrLastOwner
	}
	return err
}

// rightsChanged makes every process ask again for what u may do, and ends the sessions of a suspended account.
func (s *Service) rightsChanged(ctx context.Context, tx *db.Tx, u User, end bool, now time.Time) error {
	p, _ := auth.From(ctx)
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	if end {
		if err := endTenantSessions(ctx, tx, u.Tenant.ID, u.ID, reasonSuspended, v, now); err != nil {
			return err
		}
	}
	if err := touchRights(ctx, tx, u.Tenant.ID, u.ID, v); err != nil {
		return err
	}
	s.changed(tx)
	return s.publish(ctx, tx, u.Tenant.ID, Changed{UserID: u.ID, Status: u.Status, Role: u.Role, By: p.UserID})
}

// Delete takes a member out of the organisation: sessions in it end, keys are revoked, projects and grants go. An account that belongs to no other organisation is erased: name and address go. Usage keeps
// the id.
func (s *Service) Delete(ctx context.Context, uid string) error {
	p, _ := auth.From(ctx)
	if uid == p.UserID || uid == "me" {
		return ErrSelf.With("you cannot delete your own account")
	}
	now := s.Now()
	return s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := lockTenant(ctx, tx, p.TenantID, now); err != nil {
			return err
		}
		u, err := userByID(ctx, tx, p.TenantID, uid)
		if err != nil {
			return err
		}
		if u.service {
			return ErrNotFound.With("there is no user %q", uid)
		}
		if err := errors.Join(guardOperator(p, u), s.mayAssign(ctx, tx, u.Role)); err != nil {
			return err
		}
		if u.Role == Owner {
			if err := s.needAnotherOwner(ctx, tx, u); err != nil {
				return err
			}
		}
		return s.leave(ctx, tx, u, now)
	})
}

// leave ends a membership and all that hangs on it; an account without another one is erased.
func (s *Service) leave(ctx context.Context, tx *db.Tx, u User, now time.Time) error {
	n, err := tenantsCount(ctx, tx, u.ID)
	if err != nil {
		return err
	}
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	if err := revokeKeysOf(ctx, tx, u.Tenant.ID, u.ID, v, now); err != nil {
		return err
	}
	u.Status = Erased // in this organisation
	if err := s.rightsChanged(ctx, tx, u, true, now); err != nil {
		return err
	}
	if err := dropMember(ctx, tx, u.Tenant.ID, u.ID); err != nil || n > 1 {
		return err
	}
	return eraseUser(ctx, tx, u, now)
}

// cursor reads a (time, id) cursor; none gives start.
func cursor(filter, after string, start int64) (at int64, last string, err error) {
	keys, err := page.Decode(filter, after, 2)
	if err != nil || keys == nil {
		return start, "", err
	}
	at, err = parseInt(keys[0])
	if err != nil {
		return 0, "", page.ErrBadCursor
	}
	return at, keys[1], nil
}

// MakeKey makes an API key for the caller, or for a service account of theirs, and returns its text, which is shown once.
func (s *Service) MakeKey(ctx context.Context, n NewKey) (MadeKey, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	var made MadeKey
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		owner, err := s.keyMaker(ctx, tx, p, n.Service)
		if err != nil {
			return err
		}
		k, text, err := newKey(n, id.New("key"), owner, now)
		if err != nil {
			return err
		}
		if n.Project == "" {
			n.Project = owner.serviceProject
		}
		if k.ProjectID, k.Project, err = s.keyProject(ctx, tx, p, n.Project); err != nil {
			return err
		}
		if err := keyScopes(p, k); err != nil {
			return err
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		if err := insertKey(ctx, tx, k, v); err != nil {
			return err
		}
		made = MadeKey{k, text}
		s.changed(tx)
		return s.publish(ctx, tx, p.TenantID, KeyChanged{KeyID: k.ID, UserID: k.Owner.ID, State: k.State, By: p.UserID})
	})
	return made, err
}

// keyMaker is the account that a new key acts for: the caller, or a service account that the caller may handle.
func (s *Service) keyMaker(ctx context.Context, q db.Querier, p auth.Principal, service string) (User, error) {
	if service == "" {
		return userByID(ctx, q, p.TenantID, p.UserID)
	}
	a, err := serviceByID(ctx, q, p.TenantID, keyOwner(p), service)
	if err != nil {
		return User{}, err
	}
	u, err := userByID(ctx, q, p.TenantID, a.ID)
	u.Email, u.serviceProject = a.Name, a.ProjectID
	return u, err
}

// keyScopes refuses a key that may more than the credential that makes it: an API key gives only what it holds itself; nobody makes keys for a service account that may more than they do.
func keyScopes(p auth.Principal, k Key) error {
	if p.Kind == auth.Key || k.Owner.ID != p.UserID {
		return covers(p, meet(k.ownerRights(), k.Scopes))
	}
	return nil
}

// keyProject finds the project that a key is bound to, by id or short name: one that the caller may act for. "" = none.
func (s *Service) keyProject(ctx context.Context, q db.Querier, p auth.Principal, name string) (pid, slug string, err error) {
	if name == "" && p.Kind == auth.Key {
		name = p.Project // the key of a project makes keys of that project only
	}
	if name == "" {
		return "", "", nil
	}
	if p.Kind == auth.User { // as it is now: the project may be younger than what the caller's credential says
		b, err := rightsOf(ctx, q, []string{p.TenantID}, s.Now())
		if err != nil {
			return "", "", err
		}
		b.fill(&p, nil)
	}
	for _, one := range p.Projects {
		if one.ID == name || one.Slug == name {
			return one.ID, one.Slug, nil
		}
	}
	return "", "", auth.ErrProject.With("there is no project %.60q for you", name)
}

// keyOwner is whose keys the caller may handle: "" = all of the team.
func keyOwner(p auth.Principal) string {
	if p.May("key:admin") {
		return ""
	}
	return p.UserID
}

// keyOwnerOf is keyOwner for one key, which a grant may open.
func keyOwnerOf(p auth.Principal, kid string) string {
	if p.MayOn("key:admin", auth.Object{Kind: "key", ID: kid}) {
		return ""
	}
	return p.UserID
}

// Key returns a key of the caller, or of the team for those with key:admin.
func (s *Service) Key(ctx context.Context, kid string) (Key, error) {
	p, _ := auth.From(ctx)
	var k Key
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		k, err = keyByID(ctx, q, p.TenantID, keyOwnerOf(p, kid), kid)
		return err
	})
	k.show(s.Now())
	return k, err
}

// Keys lists keys, newest first: those of the caller and of the service accounts they made, or all of the team for those with key:admin.
func (s *Service) Keys(ctx context.Context, f KeyFilter) (page.List[Key], error) {
	p, _ := auth.From(ctx)
	may := keyOwner(p)
	if f.Owner == "me" {
		f.Owner = p.UserID
	}
	limit := page.Limit(f.Limit)
	filter := "keys\x00" + p.TenantID + "\x00" + may + "\x00" + f.Owner + "\x00" + f.Project
	at, last, err := cursor(filter, f.After, math.MaxInt64)
	if err != nil {
		return page.List[Key]{}, err
	}
	var keys []Key
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err := keysOf(ctx, q, p.TenantID, may, f, at, last, limit+1)
		for _, r := range rows {
			r.show(s.Now())
			keys = append(keys, r.Key)
		}
		return err
	})
	if err != nil {
		return page.List[Key]{}, err
	}
	return page.Of(keys, limit, filter, func(k Key) []string { return []string{micros(k.CreatedAt), k.ID} }), nil
}

// UpdateKey changes name, models and expiry of a key: ErrKeyClosed for a revoked one.
func (s *Service) UpdateKey(ctx context.Context, kid string, patch KeyPatch, check func(Key) error) (Key, error) {
	p, _ := auth.From(ctx)
	return s.changeKey(ctx, kid, func(ctx context.Context, tx *db.Tx, k *Key, now time.Time) error {
		if err := errors.Join(check(*k), k.apply(patch, now)); err != nil {
			return err
		}
		if patch.Project != nil {
			var err error
			if k.ProjectID, k.Project, err = s.keyProject(ctx, tx, p, *patch.Project); err != nil {
				return err
			}
		}
		if patch.Scopes != nil {
			return keyScopes(p, *k)
		}
		return nil
	})
}

// RotateKey gives a key a new text, shown once. The old one goes on working for overlap; earlier ones keep the end they have.
func (s *Service) RotateKey(ctx context.Context, kid string, overlap time.Duration) (MadeKey, error) {
	p, _ := auth.From(ctx)
	var text string
	k, err := s.changeKey(ctx, kid, func(ctx context.Context, tx *db.Tx, k *Key, now time.Time) error {
		if k.State = k.status(now); k.State == KeyRevoked {
			return ErrKeyClosed
		}
		if err := keyScopes(p, *k); err != nil { // who rotates learns the text
			return err
		}
		old := k.hash
		text = k.renew(now)
		until := now.Add(overlap)
		if until.After(k.RotatesAt) {
			k.RotatesAt = until
		}
		return insertKeySecret(ctx, tx, *k, old, until)
	})
	return MadeKey{k, text}, err
}

// RevokeKey ends a key for good. In this process it is refused from the next request on, elsewhere within a second; running streams of it end within two.
func (s *Service) RevokeKey(ctx context.Context, kid string) (Key, error) {
	return s.changeKey(ctx, kid, func(_ context.Context, _ *db.Tx, k *Key, now time.Time) error {
		k.revoke(now)
		return nil
	})
}

func (s *Service) changeKey(ctx context.Context, kid string, f func(context.Context, *db.Tx, *Key, time.Time) error) (Key, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	var k Key
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if k, err = keyByID(ctx, tx, p.TenantID, keyOwnerOf(p, kid), kid); err != nil {
			return err
		}
		if err := f(ctx, tx, &k, now); err != nil {
			return err
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		if err := updateKey(ctx, tx, k, v); err != nil {
			return err
		}
		k.Rev++
		s.changed(tx)
		return s.publish(ctx, tx, p.TenantID, KeyChanged{KeyID: k.ID, UserID: k.Owner.ID, State: k.State, By: p.UserID})
	})
	return k, err
}

// DeleteKey revokes a key and takes it off the lists.
func (s *Service) DeleteKey(ctx context.Context, kid string) error {
	p, _ := auth.From(ctx)
	now := s.Now()
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, err := keyByID(ctx, tx, p.TenantID, keyOwnerOf(p, kid), kid)
		if err != nil {
			return err
		}
		k.revoke(now)
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		if err := deleteKey(ctx, tx, k, v, now); err != nil {
			return err
		}
		s.changed(tx)
		return s.publish(ctx, tx, p.TenantID, KeyChanged{KeyID: k.ID, UserID: k.Owner.ID, State: KeyRevoked, By: p.UserID})
	})
}
