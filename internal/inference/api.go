package inference

import (
	"context"

	"maas/internal/platform/page"
)

// API is what other services and the command line may ask. The tenant is the caller's; a foreign id answers like a missing one, ErrDeploymentNotFound.
type API interface {
	// Deployments lists the tenant's deployments by name.
	Deployments(ctx context.Context, f DeploymentFilter) (page.List[DeploymentView], error)
	// Deployment finds one by id or name.
	Deployment(ctx context.Context, ref string) (DeploymentView, error)
	// Deploy creates a deployment that is wanted running. It returns at once; the status tells how it goes. ErrFitRefused when the model can never fit here.
	Deploy(ctx context.Context, n NewDeployment) (DeploymentView, error)
	// Start, Stop and Restart change what is wanted. Repeating them is harmless.
	Start(ctx context.Context, ref string) (DeploymentView, error)
	Stop(ctx context.Context, ref string) (DeploymentView, error)
	Restart(ctx context.Context, ref string) (DeploymentView, error)
	// Delete stops the replicas and then forgets the deployment.
	Delete(ctx context.Context, ref string) error
	// Fit says whether a model would fit now; it changes nothing.
	Fit(ctx context.Context, q FitQuery) (FitAnswer, error)
}
