package inference

import "maas/internal/platform/fault"

// The errors of the service; those of engines are in package engine.
var (
	ErrDeploymentNotFound = fault.New(fault.NotFound, "inference.deployment_not_found", "there is no such deployment")
	ErrNameTaken          = fault.New(fault.Conflict, "inference.name_taken", "a deployment of this name exists").WithHint("Choose another name, or change the existing deployment")
	ErrFitRefused         = fault.New(fault.Conflict, "inference.fit_refused", "the model does not fit into memory")
	ErrDeleting           = fault.New(fault.Conflict, "inference.deleting", "the deployment is being deleted")
	ErrRevision           = fault.New(fault.Conflict, "inference.revision_conflict", "the deployment was changed by somebody else meanwhile").WithHint("Read it again and repeat the change")
	ErrSpec               = fault.New(fault.Invalid, "inference.spec_invalid", "the deployment cannot be made like this")
	ErrProviderNotFound   = fault.New(fault.NotFound, "inference.provider_not_found", "there is no such provider")
	ErrProviderInvalid    = fault.New(fault.Invalid, "inference.provider_invalid", "the provider cannot be used like this")
	ErrProviderInUse      = fault.New(fault.Conflict, "inference.provider_in_use", "deployments use this provider").WithHint("Delete those deployments first")
	ErrModelBlocked       = fault.New(fault.Conflict, "inference.model_blocked", "this model version cannot be served")
)
