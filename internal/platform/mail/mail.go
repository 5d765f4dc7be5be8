// Package mail hands letters to a mail server by SMTP, under TLS. It keeps nothing: whoever sends does so from a job, which repeats what the server could not take now.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"maas/internal/platform/fault"
)

// Errors of this package.
var (
	ErrConfig  = fault.New(fault.Invalid, "mail.config", "the settings of the mail server cannot be used")
	ErrAddress = fault.New(fault.Invalid, "mail.address", "mail cannot be sent to this address")
	ErrRefused = fault.New(fault.Invalid, "mail.refused", "the mail server does not take this letter")
	ErrAway    = fault.New(fault.Unavailable, "mail.away", "the mail server did not take the letter now").After(time.Minute)
)

// Config of the mail server.
type Config struct {
	URL      string `yaml:"url" doc:"Mail server: smtps://HOST[:465] (TLS from the start), smtp://HOST[:587] (STARTTLS, which the server must offer), smtp+plain://HOST:PORT (no TLS, on this machine only); empty = no mail."`
	Username string `yaml:"username" doc:"Name that the mail server knows this program by; empty = no sign-in."`
	Password string `yaml:"password" secret:"true" doc:"Password for the mail server."`
	From     string `yaml:"from" doc:"Sender of letters: maas@example.com, or Our team <maas@example.com>."`
	ReplyTo  string `yaml:"reply_to" doc:"Where answers go; empty = to the sender."`
	CA       string `yaml:"ca" doc:"PEM file with the authorities that the mail server's certificate comes from; empty = those of the system."`
}

// Message is one letter to one person, in two forms.
type Message struct {
	ID      string // stays the same when the letter is sent again, so that mail programs show it once
	To      string
	Subject string
	Text    string
	HTML    string
}

// Sender sends letters. Safe for concurrent use; each letter has a connection of its own.
type Sender struct {
	c       Config
	host    string
	options []gomail.Option
	domain  string // of message ids
}

// timeout of one letter, connection included.
const timeout = 30 * time.Second

// New checks the settings. nil without an error: there is no mail server. ErrConfig lists what is wrong.
func New(c Config) (*Sender, error) {
	if c.URL == "" {
		return nil, nil
	}
	var f []fault.Field
	bad := func(name, message string) {
		f = append(f, fault.Field{Name: "mail." + name, Code: "format", Message: message})
	}
	s := &Sender{c: c, options: []gomail.Option{gomail.WithTimeout(timeout)}}
	m := gomail.NewMsg()
	if err := m.From(c.From); err != nil {
		bad("from", "must be an address such as maas@example.com")
	} else {
		_, s.domain, _ = strings.Cut(m.GetFrom()[0].Address, "@")
	}
	if c.ReplyTo != "" && m.ReplyTo(c.ReplyTo) != nil {
		bad("reply_to", "must be an address")
	}
	if c.Username != "" {
		s.options = append(s.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(c.Username), gomail.WithPassword(c.Password))
	}
	if message := s.server(c.URL); message != "" {
		bad("url", message)
	}
	if message := s.trust(c.CA); message != "" {
		bad("ca", message)
	}
	if len(f) > 0 {
		return nil, ErrConfig.WithFields(f...)
	}
	return s, nil
}

// server reads the URL; it returns what is wrong with it.
func (s *Sender) server(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "must be smtps://HOST, smtp://HOST or smtp+plain://HOST:PORT; name and password have keys of their own"
	}
	s.host = u.Hostname()
	port := map[string]int{"smtps": 465, "smtp": 587, "smtp+plain": 25}[u.Scheme]
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
			return "has a port that is none"
		}
	}
	switch u.Scheme {
	case "smtps":
		s.options = append(s.options, gomail.WithSSL())
	case "smtp":
		s.options = append(s.options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case "smtp+plain":
		if a, err := netip.ParseAddr(s.host); s.host != "localhost" && (err != nil || !a.IsLoopback()) {
			return "without TLS letters could be read on the way: smtp+plain is for this machine only"
		}
		if s.c.Username != "" {
			return "smtp+plain takes no name: a password is not sent without TLS"
		}
		s.options = append(s.options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return "begins with smtps://, smtp:// or smtp+plain://"
	}
	s.options = append(s.options, gomail.WithPort(port))
	return ""
}

// trust sets the authorities of the server's certificate.
func (s *Sender) trust(file string) string {
	t := &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return err.Error()
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return "holds no certificate in PEM form"
		}
	}
	s.options = append(s.options, gomail.WithTLSConfig(t))
	return ""
}

// Send hands one letter to the mail server and returns when it has taken it. ErrAddress and ErrRefused do not get better by repeating; ErrAway may.
func (s *Sender) Send(ctx context.Context, m Message) error {
	letter := gomail.NewMsg()
	if err := letter.From(s.c.From); err != nil {
		return ErrConfig.Wrap(err)
	}
	if s.c.ReplyTo != "" {
		if err := letter.ReplyTo(s.c.ReplyTo); err != nil {
			return ErrConfig.Wrap(err)
		}
	}
	if strings.ContainsAny(m.To, "\r\n") || strings.HasSuffix(strings.ToLower(m.To), ".invalid") || letter.To(m.To) != nil {
		return ErrAddress
	}
	letter.Subject(strings.Map(line, m.Subject))
	letter.SetDate()
	if m.ID != "" {
		letter.SetMessageIDWithValue(m.ID + "@" + s.domain)
	}
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday notice answers
	letter.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		letter.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return ErrConfig.Wrap(err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return translate(client.DialAndSendWithContext(ctx, letter))
}

// line keeps a header on one line.
func line(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

func translate(err error) error {
	if err == nil {
		return nil
	}
	var send *gomail.SendError
	var network net.Error
	switch {
	case errors.As(err, &network), !errors.As(err, &send): // no connection, no TLS, no sign-in: an operator may mend it
		return ErrAway.Wrap(err)
	case send.IsTemp(), send.ErrorCode() < 500:
		return ErrAway.Wrap(err)
	}
	return ErrRefused.Wrap(err)
}
