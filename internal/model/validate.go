package model

import (
	"context"
	"time"

	"maas/internal/model/check"
	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// commit runs a transaction: of a job, whose lease is checked with it, or a plain one.
type commit func(ctx context.Context, f func(context.Context, *db.Tx) error) error

func (s *Service) tenantOf(ctx context.Context) (string, error) {
	if t := auth.Tenant(ctx); t != "" {
		return t, nil
	}
	return "", auth.ErrUnauthenticated
}

// validate checks a version and settles its state. A version that is gone, or was decided already, is left alone. The error is for what says nothing about the files: try again.
func (s *Service) validate(ctx context.Context, do commit, versionID string, progress func(done, total int64)) error {
	tenant, err := s.tenantOf(ctx)
	if err != nil {
		return err
	}
	begun := false
	if err := do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		begun, err = s.store.begin(ctx, tx, tenant, versionID, db.Micro(s.Now()))
		return err
	}); err != nil || !begun {
		return err
	}
	start := time.Now()
	v, err := s.byID(ctx, versionID)
	if err != nil {
		return err
	}
	dir, err := s.materialize(ctx, v)
	if err != nil {
		return err
	}
	known, err := s.known(ctx, tenant, v.Files)
	if err != nil {
		return err
	}
	in := check.Input{Dir: dir.Path, Progress: progress, Known: func(sha, id string) bool { return known[check.Seen{SHA256: sha, Check: id}] }}
	for _, f := range v.Files {
		in.Files = append(in.Files, check.File{Path: f.Path, Size: f.SizeBytes, SHA256: f.SHA256})
	}
	out, err := check.Run(ctx, in)
	if err != nil {
		return err
	}
	v = v.with(out)
	s.metrics.checks.WithLabelValues(v.Status).Inc()
	s.metrics.seconds.Observe(time.Since(start).Seconds())
	s.Log.InfoContext(ctx, "version checked", "version", v.ID, "model", v.Name, "number", v.Number, "status", v.Status, "ms", time.Since(start).Milliseconds())
	return s.settle(ctx, do, tenant, v, out)
}

// known asks which files passed the slow checks before.
func (s *Service) known(ctx context.Context, tenant string, files []File) (map[check.Seen]bool, error) {
	known := map[check.Seen]bool{}
	err := s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		for _, f := range files {
			ok, err := s.store.checked(ctx, q, tenant, f.SHA256, check.Hash, check.Version)
			if err != nil {
				return err
			}
			known[check.Seen{SHA256: f.SHA256, Check: check.Hash}] = ok
		}
		return nil
	})
	return known, err
}

// with returns the version with the verdict.
func (v Version) with(out check.Output) Version {
	v.Status, v.Format, v.Architecture, v.Parameters = out.Status, out.Facts.Format, out.Facts.Architecture, out.Facts.Parameters
	v.ContextLength, v.Quantization, v.Reason = out.Facts.ContextLength, out.Facts.Quantization, nil
	v.Metadata = Metadata{Values: out.Facts.Values}
	for _, m := range out.Facts.Memory {
		v.Metadata.Memory = append(v.Metadata.Memory, Memory{Context: m.Context, Slots: m.Slots, Bytes: m.Bytes})
	}
	row := out.First(check.Reject)
	if row == nil {
		row = out.First(check.Warn)
	}
	if row != nil {
		v.Reason = &Reason{Code: row.Code, Message: row.Message, Hint: row.Hint}
		if row.Path != "" {
			v.Reason.Message = row.Path + ": " + row.Message
		}
	}
	return v
}

// settle writes state, report and what need not be read again, and tells the others.
func (s *Service) settle(ctx context.Context, do commit, tenant string, v Version, out check.Output) error {
	return do(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := db.Micro(s.Now())
		there, err := s.store.settle(ctx, tx, tenant, v, now)
		if err != nil || !there {
			return err
		}
		if err := s.store.addReport(ctx, tx, tenant, id.New("rpt"), v.ID, v.Status, out.Rows, now); err != nil {
			return err
		}
		for _, p := range out.Passed {
			if err := s.store.passed(ctx, tx, tenant, p.SHA256, p.Check, check.Version, now); err != nil {
				return err
			}
		}
		return s.tell(ctx, tx, v)
	})
}

func (s *Service) tell(ctx context.Context, tx *db.Tx, v Version) error {
	if v.Usable() {
		return event.Publish(ctx, tx, VersionReady{VersionID: v.ID, ModelID: v.ModelID, Name: v.Name, Number: v.Number, Status: v.Status})
	}
	return event.Publish(ctx, tx, VersionRejected{VersionID: v.ID, ModelID: v.ModelID, Name: v.Name, Number: v.Number, Status: v.Status, Code: v.Reason.Code})
}

// fail settles a version that could not be checked after all attempts.
func (s *Service) fail(ctx context.Context, do commit, versionID string, cause error) error {
	tenant, err := s.tenantOf(ctx)
	if err != nil {
		return err
	}
	e := fault.From(cause)
	r := Row{ID: "run", Result: check.Reject, Code: e.Code, Message: e.Text(), Hint: e.Hint}
	return do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := s.store.version(ctx, tx, tenant, versionID)
		if err != nil {
			return err
		}
		v.Status, v.Reason = Failed, &Reason{Code: e.Code, Message: "The check could not run: " + e.Text(), Hint: e.Hint}
		now := db.Micro(s.Now())
		there, err := s.store.settle(ctx, tx, tenant, v, now)
		if err != nil || !there {
			return err
		}
		if err := s.store.addReport(ctx, tx, tenant, id.New("rpt"), v.ID, v.Status, []Row{r}, now); err != nil {
			return err
		}
		return s.tell(ctx, tx, v)
	})
}

// Row is one check of a report.
type Row = check.Row
