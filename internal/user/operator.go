package user

import (
	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
)

// The errors of accounts that run the installation.
var (
	ErrOperatorOnly = fault.New(fault.Forbidden, "user.operator_only", "only an operator of this installation changes the account of an operator")
	ErrLastOperator = fault.New(fault.Conflict, "user.last_operator", "an installation keeps at least one operator")
)

// guardOperator keeps the accounts of operators out of the hands of admins of an organisation: who can change the address of an account can have a new password sent there.
func guardOperator(p auth.Principal, u User) error {
	if u.operator && u.ID != p.UserID && !p.May("platform:write") {
		return ErrOperatorOnly
	}
	return nil
}
