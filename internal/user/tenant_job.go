package user

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/job"
	"maas/internal/platform/object"
)

// ErrTenantExport is answered to an export that was never made or is gone.
var ErrTenantExport = fault.New(fault.NotFound, "user.tenant_export_not_found", "there is no such export").WithHint("Exports are kept for 7 days")

// tenantJob is the payload of work on an organisation.
type tenantJob struct {
	TenantID string `json:"tenant_id"`
	By       string `json:"by"`
}

var (
	exportTenant = job.Kind[tenantJob]{Name: "user.tenant_export", Lane: "maintenance", MaxAttempts: 3}
	purgeTenant  = job.Kind[tenantJob]{Name: "user.tenant_purge", Lane: "maintenance"}
	sweepTenant  = job.Kind[tenantJob]{Name: "user.tenant_sweep", Lane: "maintenance"}
)

const (
	purgeRows  = 2000 // rows a transaction of a purge
	purgeWait  = gapMost + 2*time.Second
	sweepAfter = time.Hour // usage that a node had not told yet is removed by a second look
	exportKeep = 7 * 24 * time.Hour
	exportArea = "user-export/"
)

func (s *Service) tenantJobs(r *job.Registry) {
	job.Handle(r, exportTenant, s.runExport)
	job.Handle(r, purgeTenant, s.runPurge)
	job.Handle(r, sweepTenant, func(ctx context.Context, run *job.Run, p tenantJob) error { return s.deleteRows(ctx, run, p.TenantID) })
}

// TenantJob is background work on an organisation that was asked for.
type TenantJob struct {
	JobID       string `json:"job_id"`
	TenantID    string `json:"tenant_id"`
	DownloadURL string `json:"download_url,omitempty" doc:"Of an export, once the job has succeeded"`
}

// ExportTenant asks for a file with everything that the database holds of an organisation, but for secrets.
func (s *Service) ExportTenant(ctx context.Context, tid string) (TenantJob, error) {
	p, err := person(ctx)
	if err != nil {
		return TenantJob{}, err
	}
	out := TenantJob{TenantID: tid}
	err = s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tenantByID(ctx, tx, p.UserID, tid); err != nil {
			return err
		}
		out.JobID, err = job.Enqueue(ctx, tx, exportTenant, tenantJob{tid, p.UserID}, job.Options{Key: "export." + tid, SubjectKind: "tenant", SubjectID: tid})
		return err
	})
	return out, err
}

// PurgeTenant removes a suspended organisation for good: every service deletes what it has of it. People who belong to no other organisation are erased. ErrTenantStatus unless it is suspended.
func (s *Service) PurgeTenant(ctx context.Context, tid string) (TenantJob, error) {
	p, err := person(ctx)
	if err != nil {
		return TenantJob{}, err
	}
	out := TenantJob{TenantID: tid}
	_, err = s.changeTenant(ctx, tid, func(ctx context.Context, tx *db.Tx, t *TenantDetail, _ time.Time) error {
		if t.Status == TenantActive {
			return ErrTenantStatus.With("the organisation is active").WithHint("Suspend it first: POST /tenants/%s/suspend", t.ID)
		}
		t.Status = TenantPurging
		var err error
		out.JobID, err = job.Enqueue(ctx, tx, purgeTenant, tenantJob{tid, p.UserID}, job.Options{Key: "purge." + tid, SubjectKind: "tenant", SubjectID: tid})
		return err
	})
	return out, err
}

// purging is what a purge remembers between its steps.
type purging struct {
	People []string  `json:"people"` // who was in the organisation, before the rows that say so go
	At     time.Time `json:"at"`
}

// runPurge tells every service, then deletes the rows of this one. Each step may be repeated.
func (s *Service) runPurge(ctx context.Context, run *job.Run, p tenantJob) error {
	err := run.Once(ctx, "announce", func(ctx context.Context, tx *db.Tx) error {
		if err := s.endTenant(ctx, tx, p.TenantID, reasonSuspended, s.Now()); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, TenantPurged(p))
	})
	if err != nil {
		return err
	}
	var told purging
	if found, err := run.Resume(ctx, &told); err != nil {
		return err
	} else if !found {
		if told, err = s.tellPurge(ctx, p.TenantID); err == nil {
			err = run.Checkpoint(ctx, told)
		}
		if err != nil {
			return err
		}
	}
	// Every process has heard that keys and sessions are refused, or will read all anew (see Verifier.Refresh), before the rows go that could tell it.
	if left := told.At.Add(purgeWait).Sub(s.Now()); left > 0 {
		return run.Yield(left, job.Reason{Code: "user.purge_spreads", Message: "all processes are learning that the organisation is closed"})
	}
	if err := s.deleteRows(ctx, run, p.TenantID); err != nil {
		return err
	}
	if err := s.removeExports(ctx, p.TenantID); err != nil {
		return err
	}
	return run.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, uid := range told.People {
			if err := s.purgePerson(ctx, tx, uid); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM user_tenant WHERE id = $1`, p.TenantID); err != nil { // its keys and sessions were refused since the suspension
			return err
		}
		_, err := job.Enqueue(ctx, tx, sweepTenant, p, job.Options{Key: "sweep." + p.TenantID, SubjectKind: "tenant", SubjectID: p.TenantID, NotBefore: s.Now().Add(sweepAfter)})
		return err
	})
}

// deleteRows removes the rows of an organisation from the tables of this service.
func (s *Service) deleteRows(ctx context.Context, run *job.Run, tid string) error {
	tables, err := s.DB.TenantTables(ctx, "user_")
	if err != nil {
		return err
	}
	if err := run.Commit(ctx, func(ctx context.Context, tx *db.Tx) error { return purgeMoney(ctx, tx, tid) }); err != nil {
		return err
	}
	for i, table := range tables {
		run.Progress(int64(i), int64(len(tables)), "tables", table.Name)
		if table.Name == numberedInvoices {
			continue
		}
		for more := true; more; {
			err := run.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
				n, err := tx.DeleteOf(ctx, table, tid, purgeRows)
				more = n == purgeRows
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// tellPurge notes who is in the organisation.
func (s *Service) tellPurge(ctx context.Context, tid string) (purging, error) {
	t := purging{At: s.Now()}
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		t.People, err = db.List(ctx, q, db.Scalar[string], `SELECT user_id FROM user_member WHERE tenant_id = $1 UNION SELECT id FROM user_service WHERE tenant_id = $1 ORDER BY 1 LIMIT 5000`, tid)
		return err
	})
	return t, err
}

// purgePerson erases an account that has no organisation left.
func (s *Service) purgePerson(ctx context.Context, tx *db.Tx, uid string) error {
	if n, err := tenantsCount(ctx, tx, uid); err != nil || n > 0 {
		return err
	}
	return eraseUser(ctx, tx, User{ID: uid}, s.Now())
}

func tenantExportKey(tid string) string { return exportArea + tid + "/organisation.zip" }

// removeExports deletes the export of an organisation.
func (s *Service) removeExports(ctx context.Context, tid string) error {
	if s.Objects == nil {
		return nil
	}
	return s.Objects.Delete(ctx, tenantExportKey(tid))
}

// runExport writes one file of JSON lines per table into an archive and stores it.
func (s *Service) runExport(ctx context.Context, run *job.Run, p tenantJob) error {
	f, err := os.CreateTemp("", "maas-export-*.zip")
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	tables, err := s.DB.TenantTables(ctx)
	if err != nil {
		return err
	}
	z := zip.NewWriter(f)
	counts := map[string]int64{}
	for i, table := range tables {
		run.Progress(int64(i), int64(len(tables)), "tables", table.Name)
		w, err := z.Create("tables/" + table.Name + ".jsonl")
		if err == nil {
			counts[table.Name], err = s.DB.DumpTenant(ctx, table, p.TenantID, w)
		}
		if err != nil {
			return err
		}
	}
	if err := s.exportPeople(ctx, z, p.TenantID, counts); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	if _, err := s.Objects.Put(ctx, tenantExportKey(p.TenantID), f, object.PutOptions{Size: size}); err != nil {
		return err
	}
	return run.Result(map[string]any{"tenant_id": p.TenantID, "download_url": "/api/v1/tenants/" + p.TenantID + "/export", "size_bytes": size, "rows": counts})
}

// exportPeople adds who is a member, which no table of the organisation's own says, and what the archive is.
func (s *Service) exportPeople(ctx context.Context, z *zip.Writer, tid string, counts map[string]int64) error {
	var people []Member
	var t TenantDetail
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		if t, err = tenantByID(ctx, q, "", tid); err != nil {
			return err
		}
		people, err = membersOf(ctx, q, tid, 0, "", 100_000)
		return err
	})
	if err != nil {
		return err
	}
	for name, v := range map[string]any{"people.json": people, "organisation.json": map[string]any{"organisation": t, "exported_at": s.Now(), "rows": counts, "left_out": "texts and hashes of credentials, sealed values, files of models"}} {
		w, err := z.Create(name)
		if err != nil {
			return err
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

// OpenExport returns the last export of an organisation: ErrTenantExport. The caller closes it.
func (s *Service) OpenExport(ctx context.Context, tid string) (io.ReadCloser, int64, error) {
	if _, err := person(ctx); err != nil {
		return nil, 0, err
	}
	if s.Objects == nil {
		return nil, 0, ErrTenantExport
	}
	r, info, err := s.Objects.Get(ctx, tenantExportKey(tid), 0, -1)
	if errors.Is(err, object.ErrNotFound) {
		return nil, 0, ErrTenantExport
	}
	return r, info.Size, err
}

// pruneExports deletes exports past their time.
func (s *Service) pruneExports(ctx context.Context) error {
	if s.Objects == nil {
		return nil
	}
	for after := ""; ; {
		list, err := s.Objects.List(ctx, exportArea, after, 1000)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, o := range list {
			after = o.Key
			if s.Now().Sub(o.Modified) > exportKeep {
				if err := s.Objects.Delete(ctx, o.Key); err != nil {
					return err
				}
			}
		}
	}
}
