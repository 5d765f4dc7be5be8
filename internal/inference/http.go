package inference

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/fault"
	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

// Permissions of the routes.
const (
	mayRead    = "inference:read"
	mayWrite   = "inference:write"
	mayOperate = "inference:operate"
)

// Routes registers the service's part of the management API.
func (s *Service) Routes(api web.API, mux *web.Mux) {
	web.Get(api, "/inference/deployments", "inference_deployment_list", mayRead, http.StatusOK, s.httpList)
	web.Post(api, "/inference/deployments", "inference_deployment_create", mayWrite, http.StatusCreated, s.httpCreate)
	web.Get(api, "/inference/deployments/{id}", "inference_deployment_get", mayRead, http.StatusOK, s.httpGet)
	web.Patch(api, "/inference/deployments/{id}", "inference_deployment_update", mayWrite, http.StatusOK, s.httpPatch)
	web.Delete(api, "/inference/deployments/{id}", "inference_deployment_delete", mayWrite, http.StatusNoContent, s.httpDelete)
	web.Post(api, "/inference/deployments/{id}/start", "inference_deployment_start", mayWrite, http.StatusOK, act(s.Start))
	web.Post(api, "/inference/deployments/{id}/stop", "inference_deployment_stop", mayWrite, http.StatusOK, act(s.Stop))
	web.Post(api, "/inference/deployments/{id}/restart", "inference_deployment_restart", mayWrite, http.StatusOK, act(s.Restart))
	web.Get(api, "/inference/deployments/{id}/replicas", "inference_replica_list", mayRead, http.StatusOK, s.httpReplicas)
	web.Get(api, "/inference/deployments/{id}/metrics", "inference_deployment_metrics", mayRead, http.StatusOK, s.httpMetrics)
	mux.Handle(http.MethodGet, "/inference/deployments/{id}/events", "inference_deployment_events", mayRead, http.HandlerFunc(s.httpEvents))
	mux.Handle(http.MethodGet, "/inference/deployments/{id}/logs", "inference_deployment_logs", mayRead, http.HandlerFunc(s.httpLogs))
	web.Get(api, "/overview", "inference_overview_get", mayRead, http.StatusOK, func(ctx context.Context, _ *struct{}) (Overview, error) { return s.Overview(ctx) })
	web.Post(api, "/inference/fit", "inference_fit_check", mayRead, http.StatusOK, s.httpFit)
	web.Get(api, "/inference/engines", "inference_engine_list", mayRead, http.StatusOK, s.httpEngines)
	s.providerRoutes(api)
	s.routeRoutes(api)
}

// language reads Accept-Language: Chinese if it comes first among the two we have, else English.
func language(r *http.Request) string {
	if r == nil {
		return "en"
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(strings.ToLower(part)), ";")
		switch {
		case strings.HasPrefix(tag, "zh"):
			return "zh"
		case strings.HasPrefix(tag, "en"):
			return "en"
		}
	}
	return "en"
}

func (v DeploymentView) in(lang string) DeploymentView {
	v.Reason = v.Reason.In(lang)
	replicas := make([]ReplicaView, len(v.Replicas))
	for i, r := range v.Replicas {
		r.Reason = r.Reason.In(lang)
		replicas[i] = r
	}
	v.Replicas = replicas
	return v
}

type refInput struct {
	ID string `path:"id" maxLength:"200" doc:"id or name"`
}

type createInput struct {
	DryRun bool `query:"dry_run" doc:"Say what would happen and whether it fits; change nothing"`
	Body   NewDeployment
}

// httpCreate answers the deployment, or with dry_run the plan.
func (s *Service) httpCreate(ctx context.Context, in *createInput) (CreateAnswer, error) {
	if in.DryRun {
		a, err := s.Plan(ctx, in.Body)
		if err != nil {
			return CreateAnswer{}, err
		}
		a.Reason = a.Reason.In(language(web.Request(ctx)))
		return CreateAnswer{FitAnswer: &a}, nil
	}
	d, err := s.Deploy(ctx, in.Body)
	if err != nil {
		return CreateAnswer{}, s.refusalIn(ctx, err, in.Body)
	}
	web.SetHeader(ctx, "Location", web.Prefix+"/inference/deployments/"+d.ID)
	web.SetRev(ctx, d.Rev)
	d = d.in(language(web.Request(ctx)))
	return CreateAnswer{DeploymentView: &d}, nil
}

// refusalIn puts the words of a refusal for lack of memory into the caller's language.
func (s *Service) refusalIn(ctx context.Context, err error, n NewDeployment) error {
	lang := language(web.Request(ctx))
	if lang == "en" || !errors.Is(err, ErrFitRefused) {
		return err
	}
	a, again := s.Plan(ctx, n)
	if again != nil || a.Reason == nil {
		return err
	}
	r := a.Reason.In(lang)
	return ErrFitRefused.With("%s", r.Message).WithHint("%s", r.Hint)
}

type listInput struct {
	Limit  int    `query:"limit" minimum:"0" maximum:"200"`
	After  string `query:"after" maxLength:"2048"`
	Status string `query:"status" maxLength:"100" doc:"statuses, separated by commas"`
}

func (s *Service) httpList(ctx context.Context, in *listInput) (page.List[DeploymentView], error) {
	l, err := s.Deployments(ctx, DeploymentFilter{Limit: in.Limit, After: in.After, Status: in.Status})
	lang := language(web.Request(ctx))
	for i := range l.Items {
		l.Items[i] = l.Items[i].in(lang)
	}
	return l, err
}

// answered puts the words into the caller's language and the revision into the ETag.
func answered(ctx context.Context, d DeploymentView, err error) (DeploymentView, error) {
	if err != nil {
		return d, err
	}
	web.SetRev(ctx, d.Rev)
	return d.in(language(web.Request(ctx))), nil
}

func (s *Service) httpGet(ctx context.Context, in *refInput) (DeploymentView, error) {
	d, err := s.Deployment(ctx, in.ID)
	return answered(ctx, d, err)
}

type patchInput struct {
	ID   string `path:"id" maxLength:"200" doc:"id or name"`
	Body Patch
}

func (s *Service) httpPatch(ctx context.Context, in *patchInput) (DeploymentView, error) {
	d, err := s.Update(ctx, in.ID, in.Body, func(rev int64) error { return web.CheckRev(ctx, rev) })
	return answered(ctx, d, err)
}

func (s *Service) httpDelete(ctx context.Context, in *refInput) (web.None, error) {
	return web.None{}, s.DeleteIf(ctx, in.ID, func(rev int64) error { return web.CheckRev(ctx, rev) })
}

func act(f func(context.Context, string) (DeploymentView, error)) func(context.Context, *refInput) (DeploymentView, error) {
	return func(ctx context.Context, in *refInput) (DeploymentView, error) {
		d, err := f(ctx, in.ID)
		return answered(ctx, d, err)
	}
}

func (s *Service) httpReplicas(ctx context.Context, in *refInput) (page.List[ReplicaView], error) {
	_, replicas, err := s.find(ctx, in.ID)
	if err != nil {
		return page.List[ReplicaView]{}, err
	}
	lang := language(web.Request(ctx))
	list := page.List[ReplicaView]{Items: make([]ReplicaView, 0, len(replicas))}
	for _, r := range replicas {
		v := s.replicaView(r)
		v.Reason = v.Reason.In(lang)
		list.Items = append(list.Items, v)
	}
	return list, nil
}

// httpLogs answers the end of a log: ?tail= lines (200), ?replica= and ?attempt= (the newest of both). JSON where the client accepts it, else plain text.
func (s *Service) httpLogs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	number := func(name string, def, most int) int {
		n, err := strconv.Atoi(q.Get(name))
		if err != nil || n <= 0 {
			return def
		}
		return min(n, most)
	}
	v, err := s.Logs(r.Context(), r.PathValue("id"), q.Get("replica"), number("attempt", 0, 1<<30), number("tail", 200, 10_000))
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, line := range v.Lines {
		_, _ = io.WriteString(w, line+"\n")
	}
}

type metricsInput struct {
	ID     string `path:"id" maxLength:"200" doc:"id or name"`
	Window string `query:"window" maxLength:"16" doc:"a duration up to 24h (15m if absent); above one hour the steps are minutes, else ten seconds"`
}

func (s *Service) httpMetrics(ctx context.Context, in *metricsInput) (MetricsView, error) {
	window := 15 * time.Minute
	if in.Window != "" {
		w, err := time.ParseDuration(in.Window)
		if err != nil || w <= 0 || w > 24*time.Hour {
			return MetricsView{}, ErrSpec.With("the window is not a duration up to 24h").WithFields(fault.Field{Name: "query.window", Code: "format", Message: "write it as 15m, 1h or 24h", Limit: "24h"})
		}
		window = w
	}
	d, _, err := s.find(ctx, in.ID)
	if err != nil {
		return MetricsView{}, err
	}
	return s.monitor.chart(d.ID, window), nil
}

func (s *Service) httpFit(ctx context.Context, in *struct{ Body FitQuery }) (FitAnswer, error) {
	a, err := s.Fit(ctx, in.Body)
	a.Reason = a.Reason.In(language(web.Request(ctx)))
	return a, err
}

// EngineView is an engine of this installation.
type EngineView struct {
	engine.Capabilities
	Name      string  `json:"name"`
	Available bool    `json:"available"`
	Reason    *Reason `json:"reason"`
}

func (s *Service) httpEngines(ctx context.Context, _ *struct{}) (page.List[EngineView], error) {
	list := page.List[EngineView]{Items: []EngineView{}}
	lang := language(web.Request(ctx))
	for _, name := range s.order {
		probe, cancel := context.WithTimeout(ctx, 5*time.Second)
		c, err := s.engines[name].Probe(probe)
		cancel()
		v := EngineView{Capabilities: c, Name: name, Available: err == nil}
		if err != nil {
			v.Reason = causeOf(err).view().In(lang)
		}
		list.Items = append(list.Items, v)
	}
	return list, nil
}

// httpEvents answers a deployment's history: a page, newest first, or with Accept: text/event-stream the live stream.
func (s *Service) httpEvents(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		s.stream(w, r)
		return
	}
	lang := language(r)
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	list, err := s.Transitions(r.Context(), r.PathValue("id"), r.URL.Query().Get("after"), limit)
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	for i := range list.Items {
		list.Items[i] = list.Items[i].in(lang)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // the client is gone if this fails
}

// stream sends `deployment` (the whole object, at most twice a second) and `transition` events. It resumes after Last-Event-ID or ?since=; without either it begins with the present moment.
func (s *Service) stream(w http.ResponseWriter, r *http.Request) {
	ctx, lang := r.Context(), language(r)
	d, replicas, err := s.find(ctx, r.PathValue("id"))
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	seq := d.Seq
	if from := r.Header.Get("Last-Event-ID") + r.URL.Query().Get("since"); from != "" {
		n, err := strconv.ParseInt(from, 10, 64)
		if err != nil || n < 0 {
			web.WriteProblem(w, r, page.ErrBadCursor)
			return
		}
		seq = min(n, d.Seq)
	}
	wake, stop := s.watch.add(d.ID)
	defer stop()
	out := web.SSE(w)
	if out.Send("", "deployment", s.view(d, replicas).in(lang)) != nil {
		return
	}
	quiet, pulse := time.NewTicker(15*time.Second), time.NewTicker(2*time.Second)
	defer quiet.Stop()
	defer pulse.Stop()
	for {
		list, err := s.transitionsSince(ctx, d.ID, seq)
		if err != nil {
			return
		}
		for _, t := range list {
			t = t.in(lang)
			if out.Send(strconv.FormatInt(t.Seq, 10), "transition", t) != nil {
				return
			}
			seq = t.Seq
		}
		if len(list) == streamBatch {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
			if out.Comment("still here") != nil {
				return
			}
			continue
		case <-wake:
			select { // several changes in a moment are told as one
			case <-ctx.Done():
				return
			case <-time.After(300 * time.Millisecond):
			}
		case <-pulse.C: // the live figures move without a change of state
		}
		v, err := s.Deployment(ctx, d.ID)
		if errors.Is(err, ErrDeploymentNotFound) {
			_ = out.Send("", "deleted", struct {
				ID string `json:"id"`
			}{d.ID})
			return
		}
		if err != nil || out.Send("", "deployment", v.in(lang)) != nil {
			return
		}
	}
}
