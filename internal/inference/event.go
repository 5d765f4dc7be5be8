package inference

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
