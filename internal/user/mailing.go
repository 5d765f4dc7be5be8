package user

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/job"
	"maas/internal/platform/mail"
	"maas/internal/platform/seal"
	"maas/internal/user/letters"
)

// Letters that jobs send. The tokens of those with a link are made by the job itself, so that no secret is stored but its hash.
const (
	jobVerify     = string(letters.Verify)
	jobExists     = string(letters.Exists)
	jobReset      = string(letters.Reset)
	jobChanged    = string(letters.Changed)
	jobApproved   = string(letters.Approved)
	jobRejected   = string(letters.Rejected)
	jobInvitation = string(letters.Invitation)
	jobReused     = string(letters.Reused)
	jobFactor     = string(letters.Factor)
)

// letterJob is the payload of a letter: to an account by id, or by an address that may or may not have one.
type letterJob struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	UserID string `json:"user_id,omitempty"`
	Email  string `json:"email,omitempty"`
	Locale string `json:"locale,omitempty"`
	Name   string `json:"name,omitempty"`
	Team   string `json:"team,omitempty"`
	By     string `json:"by,omitempty"`
	Detail string `json:"detail,omitempty"`
	Valid  string `json:"valid,omitempty"`
	Link   string `json:"link,omitempty"` // sealed: it holds the token of an invitation
}

// mailJob sends one letter. After eight attempts in about an hour it stays among the failed jobs.
var mailJob = job.Kind[letterJob]{Name: "user.mail", Lane: "net", MaxAttempts: 8, Backoff: job.Exp(10*time.Second, 20*time.Minute)}

// Jobs registers the service's background work.
func (s *Service) Jobs(r *job.Registry) {
	s.accountJobs(r)
	s.tenantJobs(r)
	job.Handle(r, mailJob, func(ctx context.Context, _ *job.Run, l letterJob) error { return s.sendLetter(ctx, l) })
	s.ledgerJobs(r)
}

// enqueueMail plans a letter in the transaction of what it tells. Letters that nobody signed in for belong to no tenant: nobody sees in a list of jobs that somebody asked for a new password.
func (s *Service) enqueueMail(ctx context.Context, tx *db.Tx, l letterJob) error {
	if s.Mail == nil {
		return ErrNoMail
	}
	l.ID = id.New("ltr")
	o := job.Options{}
	if l.Kind == jobVerify || l.Kind == jobReset { // pressed twice: one letter while the first is on its way
		h := sha256.Sum256([]byte(l.UserID + "\x00" + emailKey(l.Email)))
		o.Key = l.Kind + "." + hex.EncodeToString(h[:8])
	}
	if l.Link != "" {
		var err error
		if l.Link, err = s.Seal.Seal(ctx, letterPlace(l.ID), []byte(l.Link)); err != nil {
			return err
		}
	}
	_, err := job.Enqueue(auth.AsSystem(ctx, auth.Tenant(ctx)), tx, mailJob, l, o)
	return err
}

// mailIfAny is enqueueMail for letters that may be missing: without a mail server they are.
func (s *Service) mailIfAny(ctx context.Context, tx *db.Tx, l letterJob) error {
	if s.Mail == nil {
		return nil
	}
	return s.enqueueMail(ctx, tx, l)
}

// mailInvitation sends the link of an invitation; false if this installation sends no mail.
func (s *Service) mailInvitation(ctx context.Context, tx *db.Tx, email, team, by, locale, link string, life time.Duration) (bool, error) {
	if s.Mail == nil {
		return false, nil
	}
	return true, s.enqueueMail(ctx, tx, letterJob{Kind: jobInvitation, Email: email, Team: team, By: by, Locale: locale, Link: link, Valid: lifeText(life)})
}

func letterPlace(lid string) seal.Place {
	return seal.Place{Table: "job_entry", Column: "payload", Row: lid}
}

// askForMail plans a letter that anybody may ask for by naming an address. Known and unknown addresses cost and answer the same: the job looks whether there is an account.
func (s *Service) askForMail(ctx context.Context, l letterJob, d Device) error {
	if s.Mail == nil {
		return ErrNoMail
	}
	if !plainAddress(l.Email) {
		return nil
	}
	l.Email = strings.TrimSpace(l.Email)
	now := s.Now()
	if err := errors.Join(s.rates.take("mail\x00"+l.Kind, d.IP, mailMostIP, now), s.rates.take("mail\x00"+l.Kind+"\x00"+emailKey(l.Email), "", mailMost, now)); err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return s.enqueueMail(ctx, tx, l) })
}

// sendLetter finds the receiver, makes the link and hands the letter to the mail server. A letter without a receiver is done.
func (s *Service) sendLetter(ctx context.Context, l letterJob) error {
	if s.Mail == nil {
		return ErrNoMail
	}
	u, err := s.receiver(ctx, l)
	if err != nil || u.Email == "" || strings.HasSuffix(u.Email, ".invalid") { // such addresses receive nothing
		return err
	}
	data := letters.Data{Name: u.Profile.FirstName, Site: s.site(), Team: u.Tenant.Name, By: l.By, Detail: l.Detail, Valid: l.Valid, Link: s.url("/enter")}
	if l.Team != "" {
		data.Team = l.Team
	}
	if err := s.letterLink(ctx, l, u, &data); err != nil {
		if errors.Is(err, errNoLetter) {
			return nil
		}
		return err
	}
	text, err := letters.Write(letters.Kind(l.Kind), u.Locale, data)
	if err != nil {
		return err
	}
	err = s.Mail.Send(ctx, mail.Message{ID: l.ID, To: u.Email, Subject: text.Subject, Text: text.Text, HTML: text.HTML})
	result := "sent"
	if err != nil {
		result = fault.From(err).Code
	}
	s.metrics.letters.WithLabelValues(l.Kind, result).Inc()
	return err
}

// receiver is whom a letter goes to; an empty address: nobody.
func (s *Service) receiver(ctx context.Context, l letterJob) (User, error) {
	var u User
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		if l.UserID != "" {
			u, err = userAnywhere(ctx, q, l.UserID)
		} else {
			u, err = userByEmail(ctx, q, l.Email)
		}
		return err
	})
	switch {
	case isNoRow(err) && (l.Kind == jobRejected || l.Kind == jobInvitation):
		u, err = User{Email: l.Email, Locale: l.Locale, Profile: Profile{FirstName: l.Name}}, nil
	case isNoRow(err):
		return User{}, nil
	}
	return u, err
}

// errNoLetter ends a letter that has become pointless.
var errNoLetter = errors.New("no letter is needed any more")

// letterLink makes the one-time token of a letter and its link.
func (s *Service) letterLink(ctx context.Context, l letterJob, u User, d *letters.Data) error {
	kind, path, life := "", "", time.Duration(0)
	switch l.Kind {
	case jobVerify:
		if u.Verified {
			return errNoLetter
		}
		kind, path, life = "verify", "/verify", verifyLife
	case jobReset:
		if u.Status != Active && u.pending != pendingVerification {
			return errNoLetter
		}
		kind, path, life = "reset", "/reset", resetLife
	case jobRejected:
		d.Link = ""
		return nil
	case jobFactor:
		d.Link = s.url("/profile")
		return nil
	case jobInvitation:
		b, err := s.Seal.Open(ctx, letterPlace(l.ID), l.Link)
		d.Link = string(b)
		return err
	default:
		return nil
	}
	text := newOpaque()
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := dropTokens(ctx, tx, u.ID, kind); err != nil {
			return err
		}
		return insertToken(ctx, tx, hexHash(text), u.Tenant.ID, kind, u.ID, emailKey(u.Email), s.Now().Add(life))
	})
	d.Link, d.Valid = s.url(path+"?token="+url.QueryEscape(text)), lifeText(life)
	return err
}

// url makes an address of the console.
func (s *Service) url(path string) string { return strings.TrimRight(s.PublicURL(), "/") + path }

// site is the name that letters call the installation by.
func (s *Service) site() string {
	if u, err := url.Parse(s.PublicURL()); err == nil && u.Host != "" {
		return u.Host
	}
	return "maas"
}

// lifeText says how long a link holds, in a form that reads in every language.
func lifeText(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return strconv.Itoa(int(d/(24*time.Hour))) + " d"
	case d >= time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	}
	return strconv.Itoa(int(d/time.Minute)) + " min"
}
