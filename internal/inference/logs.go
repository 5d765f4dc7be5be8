package inference

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"maas/internal/inference/engine"
	"maas/internal/platform/object"
)

// LogView is the end of an attempt's log. Engines log no prompts and no answers.
type LogView struct {
	Replica string   `json:"replica_id"`
	Attempt int      `json:"attempt"`
	Lines   []string `json:"lines"`
}

// Logs returns the last lines of an attempt: of the newest replica and attempt where they are not named. An attempt without a kept log has no lines.
func (s *Service) Logs(ctx context.Context, ref, replica string, attempt, lines int) (LogView, error) {
	d, replicas, err := s.find(ctx, ref)
	if err != nil {
		return LogView{}, err
	}
	if len(replicas) == 0 {
		return LogView{Lines: []string{}}, nil
	}
	r := replicas[0]
	if replica != "" {
		i := slices.IndexFunc(replicas, func(r Replica) bool { return r.ID == replica })
		if i < 0 {
			return LogView{}, ErrDeploymentNotFound.With("the deployment %s has no replica %q", d.Name, replica)
		}
		r = replicas[i]
	}
	v := LogView{Replica: r.ID, Attempt: r.Attempt, Lines: []string{}}
	if attempt > 0 {
		v.Attempt = attempt
	}
	text, err := s.logText(ctx, r, v.Attempt)
	if err != nil {
		return v, err
	}
	all := strings.Split(strings.TrimRight(strings.ToValidUTF8(string(text), "\uFFFD"), "\n"), "\n")
	if len(text) > 0 {
		v.Lines = all[max(len(all)-lines, 0):]
	}
	return v, nil
}

// logText finds the log of an attempt: in the running instance, else among the kept ones.
func (s *Service) logText(ctx context.Context, r Replica, attempt int) ([]byte, error) {
	s.mu.Lock()
	p := s.supervisors[r.ID]
	s.mu.Unlock()
	if p != nil && attempt == r.Attempt {
		p.mu.Lock()
		inst := p.inst
		p.mu.Unlock()
		if t, ok := inst.(engine.Tailer); ok {
			return t.Tail(logBytes), nil
		}
	}
	if s.objects == nil || attempt == 0 {
		return nil, nil
	}
	body, _, err := s.objects.Get(ctx, logKey(r.Tenant, r.ID, attempt), 0, -1)
	switch {
	case errors.Is(err, object.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(body, 2*logBytes))
	return text, errors.Join(err, body.Close())
}
