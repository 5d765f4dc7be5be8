package model

import (
	"context"
	"encoding/json"

	"maas/internal/model/check"
	"maas/internal/platform/db"
)

const versionColumns = `v.id, v.repo_id, r.name, v.number, v.status, v.message, v.format, v.architecture, v.parameters, v.context_length, v.quantization, v.size_bytes, v.manifest_sha256, v.reason, v.metadata, v.job_id, v.created_at`

const fromVersion = ` FROM model_version v JOIN model_repo r ON r.id = v.repo_id `

func scanVersion(r db.Row) (v Version, err error) {
	var created int64
	var reason, meta string
	if err = r.Scan(&v.ID, &v.ModelID, &v.Name, &v.Number, &v.Status, &v.Message, &v.Format, &v.Architecture, &v.Parameters, &v.ContextLength, &v.Quantization, &v.SizeBytes, &v.ManifestSHA256, &reason, &meta, &v.JobID, &created); err != nil {
		return v, err
	}
	v.CreatedAt, v.Files = db.FromMicro(created), []File{}
	if reason != "" {
		if err := json.Unmarshal([]byte(reason), &v.Reason); err != nil {
			return v, err
		}
	}
	return v, json.Unmarshal([]byte(meta), &v.Metadata)
}

// addVersion inserts a version with its files.
func (store) addVersion(ctx context.Context, tx *db.Tx, tenant string, v Version, by string) error {
	_, err := tx.Exec(ctx, `INSERT INTO model_version (id, tenant_id, repo_id, number, status, message, format, architecture, parameters, context_length, quantization, size_bytes, manifest_sha256, reason, metadata, job_id, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, '', '', 0, 0, '', $7, $8, '', '{}', $9, $10, $11, $11)`,
		v.ID, tenant, v.ModelID, v.Number, v.Status, v.Message, v.SizeBytes, v.ManifestSHA256, v.JobID, by, db.Micro(v.CreatedAt))
	if err != nil {
		return err
	}
	for _, f := range v.Files {
		if _, err := tx.Exec(ctx, `INSERT INTO model_file (version_id, path, tenant_id, sha256, size_bytes) VALUES ($1, $2, $3, $4, $5)`, v.ID, f.Path, tenant, f.SHA256, f.SizeBytes); err != nil {
			return err
		}
	}
	return nil
}

// setJob notes the entry that checks the version.
func (store) setJob(ctx context.Context, tx *db.Tx, tenant, id, job string) error {
	_, err := tx.Exec(ctx, `UPDATE model_version SET job_id = $3 WHERE tenant_id = $1 AND id = $2`, tenant, id, job)
	return err
}

// version finds one by id, without its files. ErrNoVersion.
func (store) version(ctx context.Context, q db.Querier, tenant, id string) (Version, error) {
	v, err := db.One(ctx, q, scanVersion, `SELECT `+versionColumns+fromVersion+`WHERE v.tenant_id = $1 AND v.id = $2`, tenant, id)
	return v, missing(err, ErrNoVersion)
}

// numbered finds one by its number. ErrNoVersion.
func (store) numbered(ctx context.Context, q db.Querier, tenant, repo string, number int) (Version, error) {
	v, err := db.One(ctx, q, scanVersion, `SELECT `+versionColumns+fromVersion+`WHERE v.tenant_id = $1 AND v.repo_id = $2 AND v.number = $3`, tenant, repo, number)
	return v, missing(err, ErrNoVersion.With("the model has no version r%d", number))
}

// newest finds the one with the highest number, of those that may be served or of all. ErrNoVersion.
func (store) newest(ctx context.Context, q db.Querier, tenant, repo string, usable bool) (Version, error) {
	only := ""
	if usable {
		only = ` AND v.status IN ('ready', 'warned')`
	}
	v, err := db.One(ctx, q, scanVersion, `SELECT `+versionColumns+fromVersion+`WHERE v.tenant_id = $1 AND v.repo_id = $2`+only+` ORDER BY v.number DESC LIMIT 1`, tenant, repo)
	return v, missing(err, ErrNoVersion.With("the model has no version yet"))
}

// latest returns the newest version of each repository, by its id.
func (store) latest(ctx context.Context, q db.Querier, tenant string, repos []string) (map[string]*Version, error) {
	list, err := db.List(ctx, q, scanVersion, `SELECT `+versionColumns+fromVersion+`WHERE v.tenant_id = $1 AND v.repo_id IN (`+db.In(2, len(repos))+`) AND v.number = r.versions`, db.Args(repos, tenant)...)
	m := map[string]*Version{}
	for i := range list {
		m[list[i].ModelID] = &list[i]
	}
	return m, err
}

// versions lists up to n of a repository, newest first, below the number.
func (store) versions(ctx context.Context, q db.Querier, tenant, repo string, below, n int) ([]Version, error) {
	return db.List(ctx, q, scanVersion, `SELECT `+versionColumns+fromVersion+`WHERE v.tenant_id = $1 AND v.repo_id = $2 AND v.number < $3 ORDER BY v.number DESC LIMIT $4`, tenant, repo, below, n)
}

// ids lists the ids of all versions of a repository.
func (store) ids(ctx context.Context, q db.Querier, tenant, repo string) ([]string, error) {
	return db.List(ctx, q, db.Scalar[string], `SELECT id FROM model_version WHERE tenant_id = $1 AND repo_id = $2 ORDER BY number`, tenant, repo)
}

// alive returns those of the ids that exist, in any tenant.
func (store) alive(ctx context.Context, q db.Querier, ids []string) ([]string, error) {
	return db.List(ctx, q, db.Scalar[string], `SELECT id FROM model_version WHERE id IN (`+db.In(1, len(ids))+`)`, db.Args(ids)...)
}

// addFiles fills Files of the versions.
func (store) addFiles(ctx context.Context, q db.Querier, tenant string, versions ...*Version) error {
	ids, byID := make([]string, len(versions)), map[string]*Version{}
	for i, v := range versions {
		ids[i], byID[v.ID] = v.ID, v
	}
	type row struct {
		version string
		File
	}
	scan := func(r db.Row) (x row, err error) { return x, r.Scan(&x.version, &x.Path, &x.SHA256, &x.SizeBytes) }
	list, err := db.List(ctx, q, scan, `SELECT version_id, path, sha256, size_bytes FROM model_file WHERE tenant_id = $1 AND version_id IN (`+db.In(2, len(ids))+`) ORDER BY version_id, path`, db.Args(ids, tenant)...)
	for _, x := range list {
		v := byID[x.version]
		v.Files = append(v.Files, x.File)
	}
	return err
}

// begin marks a version as being checked. Zero rows: it is gone, or was decided already.
func (store) begin(ctx context.Context, tx *db.Tx, tenant, id string, now int64) (bool, error) {
	n, err := tx.Exec(ctx, `UPDATE model_version SET status = 'validating', updated_at = $3 WHERE tenant_id = $1 AND id = $2 AND status IN ('pending', 'validating', 'failed')`, tenant, id, now)
	return n > 0, err
}

// settle writes what the checks found. Zero rows: the version is gone.
func (store) settle(ctx context.Context, tx *db.Tx, tenant string, v Version, now int64) (bool, error) {
	reason := ""
	if v.Reason != nil {
		reason = pack(v.Reason)
	}
	n, err := tx.Exec(ctx, `UPDATE model_version SET status = $3, format = $4, architecture = $5, parameters = $6, context_length = $7, quantization = $8, reason = $9, metadata = $10, updated_at = $11 WHERE tenant_id = $1 AND id = $2 AND status = 'validating'`,
		tenant, v.ID, v.Status, v.Format, v.Architecture, v.Parameters, v.ContextLength, v.Quantization, reason, pack(v.Metadata), now)
	return n > 0, err
}

// addReport keeps the rows of one validation.
func (store) addReport(ctx context.Context, tx *db.Tx, tenant, id, version, status string, rows []check.Row, now int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO model_report (id, tenant_id, version_id, status, checks, at) VALUES ($1, $2, $3, $4, $5, $6)`, id, tenant, version, status, pack(rows), now)
	return err
}

// report returns the newest one of a version. ErrNoReport.
func (store) report(ctx context.Context, q db.Querier, tenant, version string) (Report, error) {
	scan := func(r db.Row) (rep Report, err error) {
		var rows string
		var at int64
		if err = r.Scan(&rep.Status, &rows, &at); err != nil {
			return rep, err
		}
		rep.At = db.FromMicro(at)
		return rep, json.Unmarshal([]byte(rows), &rep.Checks)
	}
	rep, err := db.One(ctx, q, scan, `SELECT status, checks, at FROM model_report WHERE tenant_id = $1 AND version_id = $2 ORDER BY id DESC LIMIT 1`, tenant, version)
	return rep, missing(err, ErrNoReport)
}
