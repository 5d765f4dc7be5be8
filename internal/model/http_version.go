package model

import (
	"context"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) versionRoutes(api web.API, mux *web.Mux) {
	web.Get(api, "/models/{id}/versions", "model_version_list", "model:read", http.StatusOK, s.httpVersions)
	web.Post(api, "/models/{id}/versions", "model_version_create", "model:write", http.StatusAccepted, s.httpAddVersion)
	web.Get(api, "/models/{id}/versions/{n}", "model_version_get", "model:read", http.StatusOK, func(ctx context.Context, in *versionIn) (Version, error) { return s.Version(ctx, in.ID, in.N) })
	web.Get(api, "/models/{id}/versions/{n}/report", "model_version_report", "model:read", http.StatusOK, func(ctx context.Context, in *versionIn) (Report, error) { return s.Report(ctx, in.ID, in.N) })
	web.Get(api, "/models/{id}/versions/{n}/files", "model_file_list", "model:read", http.StatusOK, s.httpFiles)
	mux.Handle(http.MethodGet, "/models/{id}/versions/{n}/files/{path...}", "model_file_get", "model:read", http.HandlerFunc(s.httpFile))
}

type versionIn struct {
	ID string `path:"id" maxLength:"128" doc:"Id or name of the model"`
	N  int    `path:"n" minimum:"1" doc:"Number of the version"`
}

type versionsIn struct {
	ID    string `path:"id" maxLength:"128" doc:"Id or name of the model"`
	Limit int    `query:"limit" minimum:"0" maximum:"200"`
	After string `query:"after" maxLength:"2048"`
}

func (s *Service) httpVersions(ctx context.Context, in *versionsIn) (page.List[Version], error) {
	return s.Versions(ctx, in.ID, in.Limit, in.After)
}

func (s *Service) httpAddVersion(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"128"`
	Body NewVersion
},
) (Version, error) {
	v, err := s.AddVersion(ctx, in.ID, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/jobs/"+v.JobID)
	}
	return v, err
}

func (s *Service) httpFiles(ctx context.Context, in *versionIn) (page.List[File], error) {
	v, err := s.Version(ctx, in.ID, in.N)
	return page.List[File]{Items: v.Files}, err
}

// httpFile sends one file: ranges, If-Range and If-None-Match on its SHA-256. Never compressed, never shown by a browser as a page.
func (s *Service) httpFile(w http.ResponseWriter, r *http.Request) {
	f, body, err := s.download(r.Context(), r.PathValue("id"), r.PathValue("n"), r.PathValue("path"))
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	defer func() { _ = body.Close() }()
	h := w.Header()
	h.Set("ETag", `"`+f.SHA256+`"`)
	h.Set("Cache-Control", "private, max-age=31536000, immutable, no-transform")
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("Content-Type", contentType(f.Path))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(f.Path)}))
	s.metrics.download.Inc()
	var content io.ReadSeeker = io.NewSectionReader(body, 0, body.Size())
	if d, ok := body.(diskReader); ok {
		content = d.File // the kernel copies from file to socket
	}
	http.ServeContent(w, r, "", time.Time{}, content)
}

func (s *Service) download(ctx context.Context, ref, number, name string) (File, Reader, error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return File{}, nil, ErrNoVersion
	}
	v, err := s.Version(ctx, ref, n)
	if err != nil {
		return File{}, nil, err
	}
	f, err := v.file(name)
	if err != nil {
		return f, nil, err
	}
	r, err := s.open(ctx, v, name)
	return f, r, err
}

// contentType is from a short list: a file that somebody uploaded must not become a page of this site.
func contentType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".json":
		return "application/json"
	case ".txt", ".md", ".jinja":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}
