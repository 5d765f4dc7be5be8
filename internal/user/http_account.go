package user

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"maas/internal/platform/web"
)

func (s *Service) accountRoutes(api web.API, mux *web.Mux) {
	web.Post(api, "/users/me/export", "user_me_export", web.SignedIn, http.StatusAccepted, func(ctx context.Context, _ *struct{}) (exportStarted, error) {
		job, export, err := s.ExportAccount(ctx)
		if err == nil {
			web.SetHeader(ctx, "Location", web.Prefix+"/jobs/"+job)
		}
		return exportStarted{job, export, exportURL(export)}, err
	})
	web.Get(api, "/users/me/exports", "user_me_export_list", web.SignedIn, http.StatusOK, func(ctx context.Context, _ *struct{}) (exportList, error) {
		list, err := s.AccountExports(ctx)
		return exportList{Items: list}, err
	})
	mux.Handle(http.MethodGet, "/users/me/exports/{id}", "user_me_export_get", web.SignedIn, http.HandlerFunc(s.httpExportFile))
	web.Post(api, "/users/me/erase", "user_me_erase", web.SignedIn, http.StatusNoContent, func(ctx context.Context, in *eraseIn) (web.None, error) {
		err := s.EraseAccount(ctx, in.Body.Password, in.Body.Confirm, device(ctx))
		if err == nil {
			s.dropCookie(ctx)
		}
		return web.None{}, err
	})
}

type eraseIn struct {
	Body struct {
		Password string `json:"password,omitempty" maxLength:"1024" doc:"Empty for people without one, whose sign-in must be recent"`
		Confirm  string `json:"confirm,omitempty" maxLength:"254" doc:"The account's own address: a guard against a slip"`
	}
}

type exportStarted struct {
	JobID  string `json:"job_id"`
	Export string `json:"export_id"`
	URL    string `json:"download_url" doc:"Answers when the job has succeeded"`
}

// exportList is the answer form of the list of exports; it has one page.
type exportList struct {
	Items []AccountExport `json:"items"`
	Next  *string         `json:"next"`
}

// httpExportFile sends an export.
func (s *Service) httpExportFile(w http.ResponseWriter, r *http.Request) {
	file, size, err := s.OpenAccountExport(r.Context(), r.PathValue("id"))
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	defer func() { _ = file.Close() }()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", `attachment; filename="account.json"`)
	h.Set("Cache-Control", "no-store")
	_, _ = io.Copy(w, file) // the client is gone: nothing left to do
}
