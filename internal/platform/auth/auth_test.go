package auth

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNeed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	require.ErrorIs(t, Need(ctx, "model:read"), ErrUnauthenticated)
	dev := With(ctx, Principal{Kind: User, TenantID: "ten_1", Permissions: []string{"model:read", "model:write"}})
	require.NoError(t, Need(dev, "model:write"))
	err := Need(dev, "user:write")
	require.ErrorIs(t, err, ErrForbidden)
	require.ErrorContains(t, err, "user:write", "the refusal names what is missing")
	require.NoError(t, Need(AsSystem(ctx, "ten_1"), "anything:at_all"))
	require.Equal(t, "ten_1", Tenant(dev))
	require.Empty(t, Tenant(ctx))
}
