package user

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/job"
	"maas/internal/platform/object"
)

// ErrExportNotFound is answered to an export that is not the caller's, not finished or past its time.
var ErrExportNotFound = fault.New(fault.NotFound, "user.export_not_found", "there is no such export").WithHint("Exports are kept for seven days")

const (
	accountExportLife = 7 * 24 * time.Hour
	accountExportMost = 5 // an hour
	accountExportRoot = "accounts"
)

// exportPayload is a person's wish for all data about them.
type exportPayload struct {
	UserID string `json:"user_id"`
	Export string `json:"export"`
}

var (
	accountExportJob = job.Kind[exportPayload]{Name: "user.export", Lane: "maintenance", Lease: time.Minute}
	exportSweepJob   = job.Kind[struct{}]{Name: "user.export_sweep", Lane: "maintenance"}
)

// accountJobs registers exports of accounts and the end of their time.
func (s *Service) accountJobs(r *job.Registry) {
	job.Handle(r, accountExportJob, s.exportAccount)
	job.Handle(r, exportSweepJob, func(ctx context.Context, _ *job.Run, _ struct{}) error {
		return s.sweepExports(ctx, s.Now().Add(-accountExportLife))
	})
	job.Schedule(r, "user.export_sweep", "23 3 * * *", exportSweepJob, struct{}{})
}

// AccountExport is a file with all data about a person.
type AccountExport struct {
	ID        string    `json:"id"`
	SizeBytes int64     `json:"size_bytes"`
	CreatedAt time.Time `json:"created_at"`
	URL       string    `json:"download_url"`
}

func exportKey(userID, export string) string {
	return path.Join(accountExportRoot, userID, export+".json")
}

func exportURL(export string) string { return "/api/v1/users/me/exports/" + export }

// ExportAccount begins an export of all data about the caller: the id of the job and of the export.
func (s *Service) ExportAccount(ctx context.Context) (jobID, export string, err error) {
	u, err := s.caller(ctx)
	if err != nil {
		return "", "", err
	}
	if err := s.rates.take("export", u.ID, accountExportMost, s.Now()); err != nil {
		return "", "", err
	}
	export = id.New("exp")
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		jobID, err = job.Enqueue(ctx, tx, accountExportJob, exportPayload{u.ID, export}, job.Options{SubjectKind: "user", SubjectID: u.ID})
		return err
	})
	return jobID, export, err
}

// exportAccount writes the file. A repeat replaces it.
func (s *Service) exportAccount(ctx context.Context, run *job.Run, p exportPayload) error {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(s.writeAccount(ctx, w, p.UserID))
	}()
	info, err := s.Objects.Put(ctx, exportKey(p.UserID, p.Export), r, object.PutOptions{})
	_ = r.CloseWithError(io.ErrClosedPipe) // the writer ends if Put did before it
	<-done
	if err != nil {
		return err
	}
	return run.Result(map[string]any{"export_id": p.Export, "download_url": exportURL(p.Export), "size_bytes": info.Size})
}

// accountData is everything about a person but the single calls, which follow as a list of their own.
type accountData struct {
	Form       string             `json:"form"` // maas-account/1
	At         time.Time          `json:"exported_at"`
	Account    accountSelf        `json:"account"`
	Teams      []accountTeam      `json:"organisations"`
	Sessions   []accountSession   `json:"sessions"`
	Identities []Identity         `json:"linked_accounts"`
	Passkeys   []Passkey          `json:"passkeys"`
	MFA        MFAState           `json:"second_factors"`
	Keys       []accountKey       `json:"api_keys"`
	Totals     []accountUsageDays `json:"usage_by_model"`
}

type accountSelf struct {
	ID          string    `json:"id"`
	Username    string    `json:"username"`
	Email       string    `json:"email"`
	Verified    bool      `json:"email_verified"`
	Profile     Profile   `json:"profile"`
	Locale      string    `json:"locale"`
	CreatedAt   time.Time `json:"created_at"`
	LastLoginAt time.Time `json:"last_login_at,omitzero"`
}

type accountTeam struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Role     string    `json:"role"`
	Status   string    `json:"status"`
	JoinedAt time.Time `json:"joined_at"`
}

type accountSession struct {
	IP        string    `json:"ip"`
	UserAgent string    `json:"user_agent"`
	AuthAt    time.Time `json:"signed_in_at"`
	SeenAt    time.Time `json:"seen_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

type accountKey struct {
	ID         string    `json:"id"`
	TenantID   string    `json:"organisation"`
	Name       string    `json:"name"`
	Prefix     string    `json:"prefix"`
	Last4      string    `json:"last4"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
}

type accountUsageDays struct {
	TenantID   string `json:"organisation"`
	Model      string `json:"model"`
	Requests   int64  `json:"requests"`
	Prompt     int64  `json:"prompt_tokens"`
	Completion int64  `json:"completion_tokens"`
}

type accountCall struct {
	RequestID  string    `json:"request_id"`
	At         time.Time `json:"at"`
	TenantID   string    `json:"organisation"`
	Model      string    `json:"model"`
	KeyID      string    `json:"key_id,omitempty"`
	Op         string    `json:"op"`
	Status     int64     `json:"status"`
	Prompt     int64     `json:"prompt_tokens"`
	Completion int64     `json:"completion_tokens"`
}

// writeAccount writes all data about a person as one JSON object, whose last member is the list of their calls.
func (s *Service) writeAccount(ctx context.Context, w io.Writer, userID string) error {
	d := s.across()
	var data accountData
	err := d.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		data, err = readAccount(ctx, q, userID, s.Now())
		return err
	})
	if isNoRow(err) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	head, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		return err
	}
	if _, err := w.Write(append(head[:len(head)-2], ",\n  \"calls\": ["...)); err != nil { // without the closing "\n}"
		return err
	}
	first := true
	for _, t := range data.Teams {
		at, last := int64(-1), ""
		for {
			var rows []accountCall
			err := d.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
				rows, err = callsOf(ctx, q, t.ID, userID, at, last, exportPage)
				return err
			})
			if err != nil {
				return err
			}
			for _, r := range rows {
				line, err := json.Marshal(r)
				if err != nil {
					return err
				}
				sep := ",\n    "
				if first {
					sep, first = "\n    ", false
				}
				if _, err := w.Write(append([]byte(sep), line...)); err != nil {
					return err
				}
			}
			if len(rows) < exportPage {
				break
			}
			at, last = db.Micro(rows[len(rows)-1].At), rows[len(rows)-1].RequestID
		}
	}
	_, err = w.Write([]byte("\n  ]\n}\n"))
	return err
}

// AccountExports lists the caller's finished exports, oldest first.
func (s *Service) AccountExports(ctx context.Context) ([]AccountExport, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	infos, err := s.Objects.List(ctx, path.Join(accountExportRoot, u.ID)+"/", "", 100)
	if err != nil {
		return nil, err
	}
	list := []AccountExport{}
	for _, i := range infos {
		name := strings.TrimSuffix(path.Base(i.Key), ".json")
		list = append(list, AccountExport{ID: name, SizeBytes: i.Size, CreatedAt: i.Modified, URL: exportURL(name)})
	}
	return list, nil
}

// OpenAccountExport opens one of the caller's exports: the place in the store is made from who asks, so another's cannot be named.
func (s *Service) OpenAccountExport(ctx context.Context, export string) (io.ReadCloser, int64, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return nil, 0, err
	}
	if !strings.HasPrefix(export, "exp_") || strings.ContainsAny(export, "/.") {
		return nil, 0, ErrExportNotFound
	}
	r, info, err := s.Objects.Get(ctx, exportKey(u.ID, export), 0, -1)
	if errors.Is(err, object.ErrNotFound) || errors.Is(err, object.ErrBadKey) {
		err = ErrExportNotFound
	}
	return r, info.Size, err
}

// sweepExports removes exports older than before.
func (s *Service) sweepExports(ctx context.Context, before time.Time) error {
	after := ""
	for {
		list, err := s.Objects.List(ctx, accountExportRoot+"/", after, 1000)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, i := range list {
			if i.Modified.Before(before) {
				if err := s.Objects.Delete(ctx, i.Key); err != nil {
					return err
				}
			}
		}
		after = list[len(list)-1].Key
	}
}

// EraseAccount removes the caller from every organisation and erases who they are: name, address, ways to sign in, sessions, exports; keys are revoked. Usage keeps the bare id. ErrLastOwner where they are the
// only owner; address, where given, must be the account's own.
func (s *Service) EraseAccount(ctx context.Context, password, address string, d Device) error {
	u, err := s.confirm(ctx, password, d)
	if err != nil {
		return err
	}
	if address != "" && emailKey(address) != emailKey(u.Email) {
		return ErrInvalidUser.WithFields(fault.Field{Name: "body.confirm", Code: "pattern", Message: "is not the address of this account"})
	}
	now := s.Now()
	err = s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		tenants, err := tenantIDsOf(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			if err := lockTenant(ctx, tx, tenant, now); err != nil {
				return err
			}
			member, err := userByID(ctx, tx, tenant, u.ID)
			if err != nil {
				return err
			}
			if member.Role == Owner {
				if err := s.needAnotherOwner(ctx, tx, member); err != nil {
					return err
				}
			}
			if err := s.leave(auth.With(ctx, auth.Principal{Kind: auth.System, TenantID: tenant, UserID: u.ID}), tx, member, now); err != nil {
				return err
			}
		}
		if n, err := otherOperators(ctx, tx, u.ID); err != nil || u.operator && n == 0 {
			return errors.Join(err, onlyIf(n == 0, ErrLastOperator))
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		if err := revokeSessions(ctx, tx, u.ID, "", reasonErased, v, now); err != nil {
			return err
		}
		s.changed(tx)
		return nil
	})
	if err != nil {
		return err
	}
	exports, err := s.Objects.List(ctx, path.Join(accountExportRoot, u.ID)+"/", "", 1000)
	if err != nil {
		return err
	}
	var keys []string
	for _, i := range exports {
		keys = append(keys, i.Key)
	}
	return s.Objects.Delete(ctx, keys...)
}

// reasonErased is why the sessions of an erased account ended.
const reasonErased = "erased"
