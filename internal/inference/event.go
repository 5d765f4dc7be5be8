package inference

import (
	"context"

	"maas/internal/model"
	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
)

// DeploymentCreated is published when somebody makes a deployment.
type DeploymentCreated struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
}

// Topic implements event.Event.
func (DeploymentCreated) Topic() string { return "inference.deployment.created" }

// Key implements event.Event.
func (e DeploymentCreated) Key() string { return e.Deployment }

// DeploymentReady is published when a deployment begins to answer.
type DeploymentReady struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
}

// Topic implements event.Event.
func (DeploymentReady) Topic() string { return "inference.deployment.ready" }

// Key implements event.Event.
func (e DeploymentReady) Key() string { return e.Deployment }

// DeploymentFailed is published when the last replica of a deployment failed.
type DeploymentFailed struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
	Code       string `json:"code"` // of the reason
}

// Topic implements event.Event.
func (DeploymentFailed) Topic() string { return "inference.deployment.failed" }

// Key implements event.Event.
func (e DeploymentFailed) Key() string { return e.Deployment }

// DeploymentStopped is published when somebody stops a deployment.
type DeploymentStopped struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
}

// Topic implements event.Event.
func (DeploymentStopped) Topic() string { return "inference.deployment.stopped" }

// Key implements event.Event.
func (e DeploymentStopped) Key() string { return e.Deployment }

// DeploymentDeleted is published when a deployment is gone, its replicas too.
type DeploymentDeleted struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
}

// Topic implements event.Event.
func (DeploymentDeleted) Topic() string { return "inference.deployment.deleted" }

// Key implements event.Event.
func (e DeploymentDeleted) Key() string { return e.Deployment }

// Events subscribes the service: a version that became usable lets the deployments try again that waited for it.
func (s *Service) Events(r *event.Registry) {
	s.purgeEvents(r)
	event.Subscribe(r, "inference.versions", func(ctx context.Context, tx *db.Tx, e model.VersionReady) error {
		list, err := s.store.ofVersion(ctx, tx, auth.Tenant(ctx), e.VersionID)
		if err != nil {
			return err
		}
		for _, d := range list {
			if d.Desired != DesiredRunning || d.Deleting || d.Status != Failed || d.Cause.Code != "model_blocked" {
				continue
			}
			_, _, err := s.change(ctx, "", d.ID, func(_ context.Context, c *draft) error {
				if c.d.Status != Failed {
					return nil
				}
				c.note(because("operator_restart"))
				return c.d.restart()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ModelUses implements model.Dependents: the deployments that serve a version of the model.
func (s *Service) ModelUses(ctx context.Context, modelID string) ([]string, error) {
	var uses []string
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		uses = nil
		for after := ""; ; {
			list, err := s.store.deployments(ctx, q, auth.Tenant(ctx), after, nil, 500)
			if err != nil {
				return err
			}
			for _, d := range list {
				if d.Spec.ModelID == modelID {
					uses = append(uses, "deployment "+d.Name)
				}
				after = d.Name
			}
			if len(list) < 500 {
				return nil
			}
		}
	})
	return uses, err
}
