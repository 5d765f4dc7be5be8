// Package user owns people, tenants, roles, sessions, API keys and the usage that is booked on them.
//
// A person (user_user) belongs to no tenant; a membership (user_member) gives them a role in one. Tenants are called organisations where people read it. Roles are sets of permissions: built-in ones in one table
// (permission.go), a tenant's own in user_role; grants add a role or one permission, on everything or on one object, for a time. Projects group keys and usage inside a tenant. Service accounts are rows of
// user_user of kind service with a membership, and never sign in. What spans tenants goes through across() and names the tenant in each statement; tokens carry no role, so a change of role acts
// at once. A session lives by a refresh token that is rotated at each use; its access token is a signed JWT of 15 minutes that every process verifies by itself. An API key is 256 random bits with a
// checksum; only its SHA-256 is stored.
//
// People come in by registration (register.go), by another provider (external.go, login/) or through an admin; a pending account is stored as a suspended one with a reason. Second factors are codes, recovery
// codes and passkeys (mfa.go, passkey.go, factor/). Letters go by jobs that make the tokens they carry (mailing.go, letters/).
//
// Invariants: a tenant keeps at least one active owner; at most one live refresh token per session; a secret is shown once; a usage row exists once per request id; what changes rights bumps the change
// counter (user_change) in the same transaction, so that every [Verifier] follows within its poll interval.
//
// Asked by every process that reads credentials (through [Verifier]) and by the gateway, which records usage. It asks nobody.
package user
