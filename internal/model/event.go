package model

import (
	"context"

	"maas/internal/platform/db"
	"maas/internal/platform/event"
)

// VersionReady is published when a version has passed its checks: it may be served.
type VersionReady struct {
	VersionID string `json:"version_id"`
	ModelID   string `json:"model_id"`
	Name      string `json:"name"`
	Number    int    `json:"number"`
	Status    string `json:"status"` // ready or warned
}

// Topic implements event.Event.
func (VersionReady) Topic() string { return "model.version.ready" }

// Key implements event.Event.
func (e VersionReady) Key() string { return e.VersionID }

// VersionRejected is published when a version was refused, or could not be checked.
type VersionRejected struct {
	VersionID string `json:"version_id"`
	ModelID   string `json:"model_id"`
	Name      string `json:"name"`
	Number    int    `json:"number"`
	Status    string `json:"status"` // rejected or failed
	Code      string `json:"code"`   // of the reason
}

// Topic implements event.Event.
func (VersionRejected) Topic() string { return "model.version.rejected" }

// Key implements event.Event.
func (e VersionRejected) Key() string { return e.VersionID }

// RepoDeleted is published when a model and all its versions are gone.
type RepoDeleted struct {
	ModelID  string   `json:"model_id"`
	Name     string   `json:"name"`
	Versions []string `json:"versions"` // ids
}

// Topic implements event.Event.
func (RepoDeleted) Topic() string { return "model.repo.deleted" }

// Key implements event.Event.
func (e RepoDeleted) Key() string { return e.ModelID }

// Events subscribes this service: folders of deleted versions are removed from the cache of this machine.
func (s *Service) Events(r *event.Registry) {
	s.purgeEvents(r)
	event.Subscribe(r, "model.cache", func(_ context.Context, tx *db.Tx, e RepoDeleted) error {
		tx.After(func() {
			for _, v := range e.Versions {
				s.cache.remove(v)
			}
		})
		return nil
	})
}
