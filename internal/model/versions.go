package model

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"maas/internal/model/check"
	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/job"
	"maas/internal/platform/object/tus"
	"maas/internal/platform/page"
)

// NewVersion names finished uploads as the files of a version.
type NewVersion struct {
	Message string    `json:"message,omitempty" maxLength:"4096" doc:"What is new"`
	Files   []NewFile `json:"files" minItems:"1" maxItems:"10000"`
}

// NewFile is one of them.
type NewFile struct {
	Path     string `json:"path" maxLength:"1024" doc:"Where it stands in the version: a plain relative path"`
	UploadID string `json:"upload_id" maxLength:"100" doc:"Id of a finished upload with the purpose model"`
}

// Report is the outcome of the newest validation of a version.
type Report struct {
	Status string      `json:"status"`
	Checks []check.Row `json:"checks"`
	At     time.Time   `json:"at"`
}

// AddVersion makes a version of finished uploads and enqueues its validation. The same files as the newest version's give that version again, so that a request may be repeated after a lost answer.
// ErrNotFound, ErrNoFiles, ErrBadPath, ErrBadUpload with all of them, ErrBusy.
func (s *Service) AddVersion(ctx context.Context, ref string, in NewVersion) (Version, error) {
	m, err := s.Model(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	files, keys, err := s.uploaded(ctx, m, in.Files)
	if err != nil {
		return Version{}, err
	}
	if err := checkFiles(files); err != nil {
		return Version{}, err
	}
	if head := m.Latest; head != nil && head.ManifestSHA256 == manifest(files) && head.Status != Failed {
		return *head, nil
	}
	if err := s.toBlobs(ctx, m.tenant, files, keys); err != nil {
		return Version{}, err
	}
	return s.add(ctx, m, in.Message, files, func(ctx context.Context, tx *db.Tx, v *Version) error {
		for _, f := range in.Files {
			if _, err := tus.Consume(ctx, tx, f.UploadID); err != nil {
				return err
			}
		}
		return enqueue(ctx, tx, v)
	})
}

// enqueue has the version checked.
func enqueue(ctx context.Context, tx *db.Tx, v *Version) (err error) {
	v.JobID, err = job.Enqueue(ctx, tx, Validate, validateArgs{Version: v.ID}, job.Options{Key: v.ID, SubjectKind: "model_version", SubjectID: v.ID})
	return err
}

// uploaded looks the uploads up. keys are their objects, with the hash of each.
func (s *Service) uploaded(ctx context.Context, m Model, in []NewFile) (files []File, keys map[string]string, err error) {
	keys = map[string]string{}
	var bad []fault.Field
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		files, bad = nil, nil
		for i, f := range in {
			wrong := func(code, words string) {
				bad = append(bad, fault.Field{Name: "body.files[" + strconv.Itoa(i) + "].upload_id", Code: code, Message: words})
			}
			u, err := tus.Get(ctx, q, f.UploadID)
			switch {
			case err != nil && fault.KindOf(err) == fault.NotFound:
				wrong("not_found", "there is no such upload")
				continue
			case err != nil:
				return err
			case u.Purpose != "model":
				wrong("conflict", "the upload has another purpose")
				continue
			case u.Metadata["model"] != "" && u.Metadata["model"] != m.ID && !strings.EqualFold(u.Metadata["model"], m.Name):
				wrong("conflict", "the upload is for another model")
				continue
			case u.SHA256 == "":
				wrong("conflict", "the upload is not finished: "+strconv.FormatInt(u.Offset, 10)+" of "+strconv.FormatInt(u.Size, 10)+" bytes are there")
				continue
			}
			files = append(files, File{Path: f.Path, SizeBytes: u.Size, SHA256: u.SHA256})
			keys[u.Key] = u.SHA256
		}
		return nil
	})
	if err == nil && len(bad) > 0 {
		err = ErrBadUpload.With("%s", bad[0].Message).WithFields(bad...)
	}
	return files, keys, err
}

// toBlobs moves uploaded objects to where blobs are. Repeating it is fine. Blobs that were condemned are revived first, so that the collector does not take them in between.
func (s *Service) toBlobs(ctx context.Context, tenant string, files []File, keys map[string]string) error {
	if err := s.revive(ctx, tenant, files); err != nil {
		return err
	}
	for key, sha := range keys {
		if _, err := s.Objects.Move(ctx, key, blobKey(tenant, sha)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) revive(ctx context.Context, tenant string, files []File) error {
	return s.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, f := range files {
			if err := s.store.revive(ctx, tx, tenant, f.SHA256, db.Micro(s.Now())); err != nil {
				return err
			}
		}
		return nil
	})
}

// add inserts a version whose blobs are in place. with runs in the same transaction and may set the job.
func (s *Service) add(ctx context.Context, m Model, message string, files []File, with func(context.Context, *db.Tx, *Version) error) (Version, error) {
	p, _ := auth.From(ctx)
	v := Version{
		ID: id.New("ver"), ModelID: m.ID, Name: m.Name, Status: Pending, Message: strings.TrimSpace(message), SizeBytes: distinctSize(files), ManifestSHA256: manifest(files), Files: files, CreatedAt: s.Now(),
	}
	err := s.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		now := db.Micro(v.CreatedAt)
		if v.Number, err = s.store.nextNumber(ctx, tx, m.tenant, m.ID, now); err != nil {
			return err
		}
		for _, f := range files {
			if err := s.store.keep(ctx, tx, m.tenant, f, now); err != nil {
				return err
			}
		}
		if err := s.store.addVersion(ctx, tx, m.tenant, v, p.UserID); err != nil {
			return err
		}
		if err := with(ctx, tx, &v); err != nil {
			return err
		}
		return s.store.setJob(ctx, tx, m.tenant, v.ID, v.JobID)
	})
	return v, err
}

// Version finds one of a model by its number, with its files. ErrNotFound, ErrNoVersion.
func (s *Service) Version(ctx context.Context, ref string, number int) (v Version, err error) {
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		m, err := s.store.repo(ctx, q, auth.Tenant(ctx), ref)
		if err != nil {
			return err
		}
		if v, err = s.store.numbered(ctx, q, m.tenant, m.ID, number); err != nil {
			return err
		}
		return s.store.addFiles(ctx, q, m.tenant, &v)
	})
	return v, err
}

// byID finds a version with its files. ErrNoVersion.
func (s *Service) byID(ctx context.Context, versionID string) (v Version, err error) {
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		if v, err = s.store.version(ctx, q, auth.Tenant(ctx), versionID); err != nil {
			return err
		}
		return s.store.addFiles(ctx, q, auth.Tenant(ctx), &v)
	})
	return v, err
}

// Versions lists those of a model, newest first. ErrNotFound.
func (s *Service) Versions(ctx context.Context, ref string, limit int, after string) (list page.List[Version], err error) {
	limit = page.Limit(limit)
	var versions []Version
	filter := ""
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		m, err := s.store.repo(ctx, q, auth.Tenant(ctx), ref)
		if err != nil {
			return err
		}
		filter = "model.versions?" + m.ID
		below := math.MaxInt
		keys, err := page.Decode(filter, after, 1)
		if err != nil {
			return err
		}
		if keys != nil {
			if below, err = strconv.Atoi(keys[0]); err != nil {
				return page.ErrBadCursor
			}
		}
		if versions, err = s.store.versions(ctx, q, m.tenant, m.ID, below, limit+1); err != nil || len(versions) == 0 {
			return err
		}
		all := make([]*Version, len(versions))
		for i := range versions {
			all[i] = &versions[i]
		}
		return s.store.addFiles(ctx, q, m.tenant, all...)
	})
	if err != nil {
		return list, err
	}
	return page.Of(versions, limit, filter, func(v Version) []string { return []string{strconv.Itoa(v.Number)} }), nil
}

// Report returns the newest report of a version. ErrNotFound, ErrNoVersion, ErrNoReport.
func (s *Service) Report(ctx context.Context, ref string, number int) (r Report, err error) {
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		m, err := s.store.repo(ctx, q, auth.Tenant(ctx), ref)
		if err != nil {
			return err
		}
		v, err := s.store.numbered(ctx, q, m.tenant, m.ID, number)
		if err != nil {
			return err
		}
		r, err = s.store.report(ctx, q, m.tenant, v.ID)
		return err
	})
	return r, err
}

// Resolve implements API.
func (s *Service) Resolve(ctx context.Context, ref string) (v Version, err error) {
	name, number, err := parseRef(ref)
	if err != nil {
		return v, err
	}
	if number == 0 && id.Valid("ver", name) {
		return s.byID(ctx, name)
	}
	tenant := auth.Tenant(ctx)
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		m, err := s.store.repo(ctx, q, tenant, name)
		if err != nil {
			return err
		}
		switch {
		case number > 0:
			v, err = s.store.numbered(ctx, q, tenant, m.ID, number)
		default:
			if v, err = s.store.newest(ctx, q, tenant, m.ID, true); errors.Is(err, ErrNoVersion) {
				v, err = s.store.newest(ctx, q, tenant, m.ID, false)
			}
		}
		if err != nil {
			return err
		}
		return s.store.addFiles(ctx, q, tenant, &v)
	})
	return v, err
}

// parseRef reads "name" or "name@r3"; number 0 = none given.
func parseRef(ref string) (name string, number int, err error) {
	name, tail, tagged := strings.Cut(ref, "@")
	if name == "" {
		return "", 0, ErrBadRef
	}
	if !tagged {
		return name, 0, nil
	}
	number, err = strconv.Atoi(strings.TrimPrefix(tail, "r"))
	if err != nil || number < 1 || !strings.HasPrefix(tail, "r") {
		return "", 0, ErrBadRef.With("%.100q is no version: write %s@r1", ref, name)
	}
	return name, number, nil
}

// allowUpload is asked before the first byte of an upload: does the model exist, can the path stand in a version?
func (s *Service) allowUpload(ctx context.Context, u tus.Upload) error {
	if p := u.Metadata["path"]; p != "" {
		if err := CheckPath(p); err != nil {
			return err
		}
	}
	if u.Metadata["model"] == "" {
		return nil
	}
	_, err := s.Model(ctx, u.Metadata["model"])
	return err
}
