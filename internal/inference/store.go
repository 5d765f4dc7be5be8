package inference

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"maas/internal/platform/db"
)

// store holds the SQL of deployments, replicas and transitions. It has no state.
type store struct{}

const deploymentColumns = `id, tenant_id, name, engine_reason, spec, desired, deleting, revision, surge, status, cause, need, seq, created_at, updated_at, rev, version`

func scanDeployment(r db.Row) (Deployment, error) {
	var d Deployment
	var spec, cause, need string
	var created, updated int64
	err := r.Scan(&d.ID, &d.Tenant, &d.Name, &d.EngineReason, &spec, &d.Desired, &d.Deleting, &d.Revision, &d.Surge, &d.Status, &cause, &need, &d.Seq, &created, &updated, &d.Rev, &d.version)
	if err != nil {
		return d, err
	}
	d.CreatedAt, d.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return d, unpack(spec, &d.Spec, cause, &d.Cause, need, &d.Need)
}

// deployment finds one by tenant and id or name; db.ErrNoRow if there is none.
func (store) deployment(ctx context.Context, q db.Querier, tenant, ref string) (Deployment, error) {
	return db.One(ctx, q, scanDeployment, `SELECT `+deploymentColumns+` FROM inference_deployment WHERE tenant_id = $1 AND (id = $2 OR name = $2)`, tenant, ref)
}

// deploymentByID finds one in any tenant.
func (store) deploymentByID(ctx context.Context, q db.Querier, id string) (Deployment, error) {
	return db.One(ctx, q, scanDeployment, `SELECT `+deploymentColumns+` FROM inference_deployment WHERE id = $1`, id)
}

// deployments lists a tenant's, by name, after a name; status filters where not empty.
func (store) deployments(ctx context.Context, q db.Querier, tenant, after string, statuses []string, limit int) ([]Deployment, error) {
	text := `SELECT ` + deploymentColumns + ` FROM inference_deployment WHERE tenant_id = $1 AND name > $2`
	if len(statuses) > 0 {
		text += ` AND status IN (` + db.In(4, len(statuses)) + `)`
	}
	return db.List(ctx, q, scanDeployment, text+` ORDER BY name LIMIT $3`, db.Args(statuses, tenant, after, limit)...)
}

// all lists the deployments of every tenant after an id: what the loop looks after.
func (store) all(ctx context.Context, q db.Querier, after string, limit int) ([]Deployment, error) {
	return db.List(ctx, q, scanDeployment, `SELECT `+deploymentColumns+` FROM inference_deployment WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
}

// ofProvider lists the deployments that use a provider.
func (store) ofProvider(ctx context.Context, q db.Querier, tenant, provider string) ([]Deployment, error) {
	return db.List(ctx, q, scanDeployment, `SELECT `+deploymentColumns+` FROM inference_deployment WHERE tenant_id = $1 AND provider_id = $2 ORDER BY id LIMIT 1000`, tenant, provider)
}

func (store) insertDeployment(ctx context.Context, tx *db.Tx, d Deployment) error {
	_, err := tx.Exec(ctx, `INSERT INTO inference_deployment (id, tenant_id, name, engine_reason, spec, version_id, provider_id, desired, deleting, revision, surge, status, cause, need, seq, created_at, updated_at, rev, version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		d.ID, d.Tenant, d.Name, d.EngineReason, pack(d.Spec), d.Spec.VersionID, d.Spec.ProviderID, d.Desired, d.Deleting, d.Revision, d.Surge, d.Status, pack(d.Cause), pack(d.Need), d.Seq,
		db.Micro(d.CreatedAt), db.Micro(d.UpdatedAt), d.Rev, d.version)
	return err
}

// updateDeployment writes everything that can change, if nobody wrote the row since d was read; ErrRevision else.
func (store) updateDeployment(ctx context.Context, tx *db.Tx, d Deployment) error {
	n, err := tx.Exec(ctx, `UPDATE inference_deployment SET engine_reason = $3, spec = $4, version_id = $5, provider_id = $6, desired = $7, deleting = $8, revision = $9, surge = $10, status = $11, cause = $12,
		need = $13, seq = $14, updated_at = $15, rev = $16, version = version + 1 WHERE id = $1 AND version = $2`,
		d.ID, d.version, d.EngineReason, pack(d.Spec), d.Spec.VersionID, d.Spec.ProviderID, d.Desired, d.Deleting, d.Revision, d.Surge, d.Status, pack(d.Cause), pack(d.Need), d.Seq, db.Micro(d.UpdatedAt), d.Rev)
	return db.Guard(n, err, ErrRevision)
}

// deleteDeployment removes it with its replicas and history.
func (store) deleteDeployment(ctx context.Context, tx *db.Tx, id string) error {
	for _, text := range []string{`DELETE FROM inference_transition WHERE deployment_id = $1`, `DELETE FROM inference_replica WHERE deployment_id = $1`, `DELETE FROM inference_deployment WHERE id = $1`} {
		if _, err := tx.Exec(ctx, text, id); err != nil {
			return err
		}
	}
	return nil
}

const replicaColumns = `id, tenant_id, deployment_id, revision, spec, state, cause, attempt, ref, need, measured, crashes, backoff, retry_at, started_at, ready_at, created_at, updated_at, rev`

func scanReplica(row db.Row) (Replica, error) {
	var r Replica
	var spec, cause, ref, need, crashes string
	var retry, started, ready, created, updated int64
	err := row.Scan(&r.ID, &r.Tenant, &r.Deployment, &r.Revision, &spec, &r.State, &cause, &r.Attempt, &ref, &need, &r.Measured, &crashes, &r.Backoff, &retry, &started, &ready, &created, &updated, &r.Rev)
	if err != nil {
		return r, err
	}
	r.RetryAt, r.StartedAt, r.ReadyAt = db.FromMicro(retry), db.FromMicro(started), db.FromMicro(ready)
	r.CreatedAt, r.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return r, unpack(spec, &r.Spec, cause, &r.Cause, ref, &r.Ref, need, &r.Need, crashes, &r.Crashes)
}

// replicas lists the newest replicas of a deployment, newest revision first.
func (store) replicas(ctx context.Context, q db.Querier, deployment string, limit int) ([]Replica, error) {
	return db.List(ctx, q, scanReplica, `SELECT `+replicaColumns+` FROM inference_replica WHERE deployment_id = $1 ORDER BY revision DESC LIMIT $2`, deployment, limit)
}

// liveReplicas lists the replicas of all deployments that are in no final state.
func (store) liveReplicas(ctx context.Context, q db.Querier) ([]Replica, error) {
	return db.List(ctx, q, scanReplica, `SELECT `+replicaColumns+` FROM inference_replica WHERE state IN ('pending', 'fitting', 'starting', 'loading', 'ready', 'draining') ORDER BY id LIMIT 10000`)
}

func (store) insertReplica(ctx context.Context, tx *db.Tx, r Replica) error {
	_, err := tx.Exec(ctx, `INSERT INTO inference_replica (`+replicaColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		r.ID, r.Tenant, r.Deployment, r.Revision, pack(r.Spec), r.State, pack(r.Cause), r.Attempt, pack(r.Ref), pack(r.Need), r.Measured, pack(r.Crashes), r.Backoff, db.Micro(r.RetryAt), db.Micro(r.StartedAt),
		db.Micro(r.ReadyAt), db.Micro(r.CreatedAt), db.Micro(r.UpdatedAt), r.Rev)
	return err
}

// updateReplica writes everything that can change, if the row is still at r.Rev: a server that lost a replica to another cannot write it any more.
func (store) updateReplica(ctx context.Context, tx *db.Tx, r Replica) error {
	n, err := tx.Exec(ctx, `UPDATE inference_replica SET state = $3, cause = $4, attempt = $5, ref = $6, need = $7, measured = $8, crashes = $9, backoff = $10, retry_at = $11, started_at = $12, ready_at = $13,
		updated_at = $14, rev = rev + 1 WHERE id = $1 AND rev = $2`,
		r.ID, r.Rev, r.State, pack(r.Cause), r.Attempt, pack(r.Ref), pack(r.Need), r.Measured, pack(r.Crashes), r.Backoff, db.Micro(r.RetryAt), db.Micro(r.StartedAt), db.Micro(r.ReadyAt), db.Micro(r.UpdatedAt))
	return db.Guard(n, err, ErrRevision)
}

// forgetReplicas drops the final replicas of a deployment below a revision: history is kept for the newest.
func (store) forgetReplicas(ctx context.Context, tx *db.Tx, deployment string, below int) error {
	_, err := tx.Exec(ctx, `DELETE FROM inference_replica WHERE deployment_id = $1 AND revision < $2 AND state IN ('stopped', 'failed')`, deployment, below)
	return err
}

const transitionColumns = `id, tenant_id, deployment_id, seq, replica_id, attempt, from_state, to_state, cause, at`

func scanTransition(row db.Row) (Transition, error) {
	var t Transition
	var c string
	var at int64
	if err := row.Scan(&t.ID, &t.tenant, &t.Deployment, &t.Seq, &t.Replica, &t.Attempt, &t.From, &t.To, &c, &at); err != nil {
		return t, err
	}
	var why cause
	if err := unpack(c, &why); err != nil {
		return t, err
	}
	t.At = db.FromMicro(at)
	why.At = t.At
	t.Reason = why.view()
	return t, nil
}

func (store) insertTransition(ctx context.Context, tx *db.Tx, t Transition, c cause) error {
	_, err := tx.Exec(ctx, `INSERT INTO inference_transition (`+transitionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		t.ID, t.tenant, t.Deployment, t.Seq, t.Replica, t.Attempt, t.From, t.To, pack(c), db.Micro(t.At))
	return err
}

// transitionsAfter lists a deployment's history from a sequence number on, oldest first.
func (store) transitionsAfter(ctx context.Context, q db.Querier, deployment string, seq int64, limit int) ([]Transition, error) {
	return db.List(ctx, q, scanTransition, `SELECT `+transitionColumns+` FROM inference_transition WHERE deployment_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, deployment, seq, limit)
}

// transitionsBefore lists a deployment's history before a sequence number, newest first.
func (store) transitionsBefore(ctx context.Context, q db.Querier, deployment string, seq int64, limit int) ([]Transition, error) {
	return db.List(ctx, q, scanTransition, `SELECT `+transitionColumns+` FROM inference_transition WHERE deployment_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3`, deployment, seq, limit)
}

// pack is the JSON text of a column; only plain structs are given to it.
func pack(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("inference: %T cannot be JSON: %v", v, err))
	}
	return string(b)
}

// unpack reads pairs of column text and pointer.
func unpack(pairs ...any) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := json.Unmarshal([]byte(pairs[i].(string)), pairs[i+1]); err != nil {
			return fmt.Errorf("read stored %T: %w", pairs[i+1], err)
		}
	}
	return nil
}

// present lists, over all deployments, the replicas that are not final and those of the present revision: what the loop decides by.
func (store) present(ctx context.Context, q db.Querier) ([]Replica, error) {
	return db.List(ctx, q, scanReplica, `SELECT r.id, r.tenant_id, r.deployment_id, r.revision, r.spec, r.state, r.cause, r.attempt, r.ref, r.need, r.measured, r.crashes, r.backoff, r.retry_at, r.started_at, r.ready_at,
		r.created_at, r.updated_at, r.rev FROM inference_deployment d JOIN inference_replica r ON r.deployment_id = d.id AND (r.revision = d.revision OR r.state NOT IN ('stopped', 'failed'))
		ORDER BY r.id LIMIT 20000`)
}

// replicasOf lists the replicas of several deployments that a list shows, by deployment.
func (store) replicasOf(ctx context.Context, q db.Querier, list []Deployment) (map[string][]Replica, error) {
	ids := make([]string, len(list))
	for i, d := range list {
		ids[i] = d.ID
	}
	out := map[string][]Replica{}
	for part := range slices.Chunk(ids, 500) {
		rows, err := db.List(ctx, q, scanReplica, `SELECT `+replicaColumns+` FROM inference_replica WHERE deployment_id IN (`+db.In(1, len(part))+`) ORDER BY deployment_id, revision DESC LIMIT 5000`, db.Args(part)...)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.Deployment] = append(out[r.Deployment], r)
		}
	}
	return out, nil
}

// ofVersion lists the deployments of a model version.
func (store) ofVersion(ctx context.Context, q db.Querier, tenant, version string) ([]Deployment, error) {
	return db.List(ctx, q, scanDeployment, `SELECT `+deploymentColumns+` FROM inference_deployment WHERE tenant_id = $1 AND version_id = $2 ORDER BY id LIMIT 1000`, tenant, version)
}

// mark is a text that changes with every write of a deployment or one of its replicas.
func (store) mark(ctx context.Context, q db.Querier) (string, error) {
	return db.One(ctx, q, func(r db.Row) (string, error) {
		var n, sum int64
		err := r.Scan(&n, &sum)
		return strconv.FormatInt(n, 10) + "." + strconv.FormatInt(sum, 10), err
	}, `SELECT COUNT(*), CAST(COALESCE(SUM(version), 0) AS BIGINT) FROM inference_deployment`)
}
